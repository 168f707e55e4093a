"""How long attention of a step that decodes takes over pages of a format, on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

import torch

from engine.batch import Batch, Packing
from engine.kernels.backend import TritonBackend
from engine.kv.formats import RecordLayout

if TYPE_CHECKING:
    from engine.attention import LayerPool
    from engine.models.config import ModelConfig
    from engine.models.progress import Progress
    from engine.quality.evaluation import Candidate

# In a step other layers and the weights come between two uses of a layer's pages.
CACHE_BYTES: Final = 200 * 2**20
MAX_POOLS: Final = 64
ROUNDS: Final = 15
DTYPE: Final = torch.bfloat16


class DecodeLoad(NamedTuple):
    """One new token of each of `size` sequences, `context` tokens with it."""

    size: int = 16
    context: int = 4096


class DecodeClock:
    """Times one layer of a model's shape in bf16, layout by layout; `device` is a GPU's."""

    def __init__(self, config: ModelConfig, load: DecodeLoad, device: torch.device) -> None:
        self._config = config
        self._load = load
        self._device = device
        self._backend = TritonBackend(device, DTYPE)
        self._known: dict[RecordLayout, float] = {}

    def compile_ahead(self, layouts: Iterable[RecordLayout], progress: Progress) -> None:
        """Has the kernels of all these layouts compiled side by side: one by one takes minutes."""
        with torch.inference_mode(), self._backend.compiling_ahead(progress):
            for layout in layouts:
                self.calls(layout)[0]()

    def layers_us(self, layouts: Sequence[RecordLayout]) -> float:
        """Of all these layers together, a median over replays of a graph of each kind."""
        return sum(self._layer_us(layout) for layout in layouts)

    def _layer_us(self, layout: RecordLayout) -> float:
        if layout not in self._known:
            with torch.inference_mode():
                self._known[layout] = graph_us(self.calls(layout))
        return self._known[layout]

    def calls(self, layout: RecordLayout) -> list[Callable[[], object]]:
        """The same attention over pools that are together larger than the GPU's cache."""
        config, backend = self._config, self._backend
        first = self._pool(layout)
        count = min(MAX_POOLS, -(-CACHE_BYTES // backend.backed_bytes([first])))
        pools = [first, *(self._pool(layout) for _ in range(count - 1))]
        batch = self._batch(layout)
        plan = backend.plan(batch, config.num_heads, config.num_kv_heads, config.head_dim)
        shape = (self._load.size, config.num_heads, config.head_dim)
        q = torch.zeros(shape, dtype=DTYPE, device=self._device)
        scale = config.head_dim**-0.5
        return [partial(backend.attend, q, pool, plan, scale, None) for pool in pools]

    def _pages(self, layout: RecordLayout) -> int:
        """Of one sequence."""
        return -(-self._load.context // layout.block_size)

    def _pool(self, layout: RecordLayout) -> LayerPool:
        heads, size = self._config.num_kv_heads, self._load.size
        num_pages = size * self._pages(layout)
        if not layout.format.is_packed:
            return self._backend.allocate_pool(num_pages, heads, layout.block_size, layout.head_dim)
        return self._backend.allocate_packed_pool(2 * size, num_pages, heads, layout)

    def _batch(self, layout: RecordLayout) -> Batch:
        """Pages in random order; of packed ones each sequence's first is wide, and its last."""
        size, context = self._load
        page, num_packed = layout.block_size, size * self._pages(layout)
        tables = torch.randperm(num_packed).view(size, -1)
        rows = torch.arange(size)
        packing, last = None, tables[:, -1]
        if layout.format.is_packed:
            packing, last = Packing(page, num_packed, None), size + rows
            tables[:, 0] = num_packed + rows
        on = self._device
        return Batch(
            token_ids=rows.to(on),
            positions=torch.full((size,), context - 1, device=on),
            slots=(last * page + (context - 1) % page).to(on),
            block_tables=tables.to(on, torch.int32),
            query_starts=torch.arange(size + 1, dtype=torch.int32, device=on),
            context_lens_device=torch.full((size,), context, dtype=torch.int32, device=on),
            logit_rows=rows.to(on),
            query_lens=(1,) * size,
            context_lens=(context,) * size,
            packing=packing,
        )


def decode_us(
    config: ModelConfig, candidates: Sequence[Candidate], progress: Progress
) -> list[float] | None:
    """Microseconds of all layers in one step, a candidate each; None where there is no GPU."""
    if not torch.cuda.is_available():
        return None
    clock = DecodeClock(config, DecodeLoad(), torch.device("cuda"))
    layouts = [candidate.layouts(config.head_dim) for candidate in candidates]
    clock.compile_ahead(dict.fromkeys(chain(*layouts)), progress)
    us: list[float] = []
    for own in layouts:
        progress("decode", len(us), len(layouts), "formats")
        us.append(clock.layers_us(own))
    return us


def graph_us(calls: Sequence[Callable[[], object]]) -> float:
    """Microseconds of one call, all of them captured in one CUDA graph."""
    for call in calls:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    graph.replay()
    return median(_replay_us(graph) for _ in range(ROUNDS)) / len(calls)


def _replay_us(graph: torch.cuda.CUDAGraph) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    graph.replay()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) * 1e3
