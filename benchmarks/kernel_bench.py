"""What the benchmarks of kernels share: shapes, batches, timing, and the ceilings of the GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from engine.attention import LayerPool
from engine.batch import Batch
from engine.kernels.backend import TritonBackend
from engine.quality.decode_time import graph_us

Call = Callable[[], object]

BLOCK_SIZE = 16
DTYPE = torch.bfloat16
CACHE_BYTES = 256 << 20  # several times the 60 MB of L2 that an H200 has
MAX_SETS = 32  # as many as a model has layers
MIN_CALLS = 20


class Shape(NamedTuple):
    """The sizes of one model's layers."""

    name: str
    num_heads: int
    num_kv_heads: int
    head_dim: int
    hidden: int
    inner: int
    vocab: int

    @property
    def heads(self) -> tuple[int, int, int]:
        """Of q, k and v."""
        return self.num_heads, self.num_kv_heads, self.num_kv_heads

    @property
    def weight_bytes(self) -> int:
        """Of one layer's matrices."""
        q, kv = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        return num_bytes(self.hidden, 2 * q + 2 * kv + 3 * self.inner)

    def kv_bytes(self, batch: Batch) -> int:
        """K and V read once, q read and the output written once."""
        read = num_bytes(sum(batch.context_lens), self.num_kv_heads, self.head_dim)
        written = num_bytes(sum(batch.query_lens), self.num_heads, self.head_dim)
        return 2 * (read + written)

    def attention_flops(self, new: int, prefix: int) -> int:
        """Of `new` tokens after `prefix`: two products over the pairs that causality leaves."""
        pairs = new * prefix + new * (new + 1) // 2
        return 4 * self.num_heads * self.head_dim * pairs


SHAPES = (
    Shape("qwen2.5-7b", 28, 4, 128, 3584, 18944, 152064),
    Shape("smollm2", 9, 3, 64, 576, 1536, 49152),
)


class Row(NamedTuple):
    """One measurement. `rate` is in `unit`, `share` is the measured ceiling's part of it."""

    section: str
    case: str
    us: float
    rate: float
    unit: str
    share: float
    torch_us: float | None

    def __str__(self) -> str:
        beside = ""
        if self.torch_us is not None:
            beside = f"  torch {self.torch_us:9.1f} us, {self.torch_us / self.us:5.2f}x"
        return (
            f"{self.section:13} {self.case:56} {self.us:9.1f} us {self.rate:8.1f} {self.unit:7}"
            f" {self.share:6.1%}{beside}"
        )


class Bench:
    """Times calls on the GPU and puts them beside its ceilings, measured at construction."""

    def __init__(self) -> None:
        self.device = torch.device("cuda")
        self.backend = TritonBackend(self.device, DTYPE)
        self.num_sms = torch.cuda.get_device_properties(self.device).multi_processor_count
        self.memory_gb_s = self._memory_gb_s()
        self.product_tflop_s = self._product_tflop_s()

    def random(self, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=DTYPE, device=self.device).normal_()

    def time_us(self, calls: Sequence[Call]) -> float:
        """Microseconds of one call, the launches of all of them captured in one graph."""
        return graph_us(list(calls) * max(1, MIN_CALLS // len(calls)))

    def moved(
        self,
        section: str,
        case: str,
        calls: Sequence[Call],
        num_bytes: int,
        torch_us: float | None = None,
    ) -> Row:
        """A row of calls that move `num_bytes` each."""
        us = self.time_us(calls)
        rate = num_bytes / us / 1e3
        return Row(section, case, us, rate, "GB/s", rate / self.memory_gb_s, torch_us)

    def computed(
        self,
        section: str,
        case: str,
        calls: Sequence[Call],
        flops: int,
        torch_us: float | None = None,
    ) -> Row:
        """A row of calls that make `flops` operations each."""
        us = self.time_us(calls)
        rate = flops / us / 1e6
        return Row(section, case, us, rate, "TFLOP/s", rate / self.product_tflop_s, torch_us)

    def batch(self, query_lens: Sequence[int], context_lens: Sequence[int]) -> tuple[Batch, int]:
        """Sequences in shuffled pages, and how many pages that are."""
        width = -(-max(context_lens) // BLOCK_SIZE)
        num_pages = width * len(query_lens)
        tables = torch.randperm(num_pages).view(-1, width)
        lens = zip(query_lens, context_lens, strict=True)
        places = [torch.arange(context - new, context) for new, context in lens]
        slots = [
            tables[row][place // BLOCK_SIZE] * BLOCK_SIZE + place % BLOCK_SIZE
            for row, place in enumerate(places)
        ]
        starts = torch.tensor([0, *query_lens]).cumsum(0)
        return Batch(
            token_ids=torch.zeros(int(starts[-1]), dtype=torch.int64, device=self.device),
            positions=torch.cat(places).to(self.device),
            slots=torch.cat(slots).to(self.device),
            block_tables=tables.int().to(self.device),
            query_starts=starts.int().to(self.device),
            context_lens_device=torch.tensor(context_lens, dtype=torch.int32, device=self.device),
            logit_rows=(starts[1:] - 1).to(self.device),
            query_lens=tuple(query_lens),
            context_lens=tuple(context_lens),
        ), num_pages

    def pools(self, shape: Shape, num_pages: int) -> list[LayerPool]:
        """As many pools of random numbers as together are larger than the cache."""
        sizes = (num_pages, shape.num_kv_heads, BLOCK_SIZE, shape.head_dim)
        pools = [self.backend.allocate_pool(*sizes) for _ in range(num_sets(2 * num_bytes(*sizes)))]
        for pool in pools:
            pool.k.normal_()
            pool.v.normal_()
        return pools

    def _memory_gb_s(self) -> float:
        """The better of reading alone and of reading and writing, by kernels: in a graph a plain
        copy goes to the copy engine, which reached 2,773 GB/s on an H200 where kernels reach 4,300.
        """
        source = self.random(1 << 31)
        target = torch.empty_like(source)
        read_us = self.time_us([lambda: torch.sum(source, dtype=torch.float32)])
        both_us = self.time_us([lambda: torch.neg(source, out=target)])
        return max(num_bytes(1 << 31) / read_us, 2 * num_bytes(1 << 31) / both_us) / 1e3

    def _product_tflop_s(self) -> float:
        n = 8192
        a, b, out = self.random(n, n), self.random(n, n), self.random(n, n)
        return 2 * n**3 / self.time_us([lambda: torch.mm(a, b, out=out)]) / 1e6


def num_bytes(*sizes: int) -> int:
    """Of a tensor of these sizes."""
    total = DTYPE.itemsize
    for size in sizes:
        total *= size
    return int(total)


def num_sets(set_bytes: int) -> int:
    """Of inputs of this size, how many to take turns with."""
    return min(MAX_SETS, max(1, -(-CACHE_BYTES // set_bytes)))
