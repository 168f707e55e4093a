"""Paged caches with known content, and where kernels run: a GPU, or Triton's interpreter.

Triton decides at its import whether it interprets, and other tests import it first. So without a
GPU the tests of numbers run in a process of their own: test_kernels_interpreted.py starts it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch

from engine.attention import LayerPool
from engine.batch import Batch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

NUMBERS = [
    "test_kernels_backend.py",
    "test_kernels_decode_time.py",
    "test_kernels_dense_prefill.py",
    "test_kernels_interpreter.py",
    "test_kernels_launching.py",
    "test_kernels_norm.py",
    "test_kernels_packed_decode.py",
    "test_kernels_packed_prefill.py",
    "test_kernels_packed_seal.py",
    "test_kernels_paged_decode.py",
    "test_kernels_paged_prefill.py",
    "test_kernels_rope_write.py",
    "test_kernels_sampling.py",
    "test_kernels_silu_mul.py",
    "test_kernels_stream_linear.py",
    "test_kernels_stream_read.py",
    "test_kernels_tile_map.py",
    "test_kernels_tiled_linear.py",
]
OTHERS = ["test_gpu_correctness.py", "test_kernels_compile.py", "test_kernels_reference.py"]


collect_ignore = []
if INTERPRETED:
    from interpreter import make_faster, refuse_foreign_memory

    collect_ignore = [*OTHERS, "test_kernels_interpreted.py"]
    make_faster()
    refuse_foreign_memory()
elif not torch.cuda.is_available():
    collect_ignore = NUMBERS

# ||out - reference|| / ||reference|| that rounding alone may cause: inputs are rounded before both,
# so it is the rounding of the result and, in attention, of the softmax weights.
TOLERANCES = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@dataclass(frozen=True)
class PagedCase:
    """Sequences in shuffled pages; every element that holds no token of theirs is NaN."""

    q: torch.Tensor
    pool: LayerPool
    batch: Batch

    @property
    def tables(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.batch.block_tables, self.batch.query_starts, self.batch.context_lens_device

    def poisoned_output(self) -> torch.Tensor:
        return torch.full_like(self.q, torch.nan).flatten(1)


MakePaged = Callable[..., PagedCase]


def place(context_lens: Sequence[int], block_size: int, seed: int) -> tuple[torch.Tensor, int]:
    """Block tables (S, P), their spare columns a valid page, and how many pages there are."""
    counts = [-(-context // block_size) for context in context_lens]
    num_pages = sum(counts) + 3
    pages = list(range(num_pages))
    random.Random(seed).shuffle(pages)
    width = max(counts) + 1
    rows = []
    for count in counts:
        rows.append([pages.pop() for _ in range(count)])
        rows[-1] += [rows[-1][0] if rows[-1] else 0] * (width - count)
    return torch.tensor(rows, dtype=torch.int32), num_pages


def make_batch(
    query_lens: Sequence[int],
    context_lens: Sequence[int],
    block_size: int,
    seed: int,
    room: Sequence[int] | None = None,
) -> tuple[Batch, int]:
    """A batch on the CPU with random token ids below 100, and how many pages it needs.

    Batches with the same `room` (tokens to come, of each sequence) and seed have the same pages.
    """
    block_tables, num_pages = place(room or context_lens, block_size, seed)
    block_tables = block_tables[: len(query_lens)]
    positions, slots, starts = [], [], [0]
    for row, (new, context) in enumerate(zip(query_lens, context_lens, strict=True)):
        for position in range(context - new, context):
            positions.append(position)
            page = int(block_tables[row, position // block_size])
            slots.append(page * block_size + position % block_size)
        starts.append(starts[-1] + new)
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        token_ids=torch.randint(0, 100, (starts[-1],), generator=generator),
        positions=torch.tensor(positions),
        slots=torch.tensor(slots),
        block_tables=block_tables,
        query_starts=torch.tensor(starts, dtype=torch.int32),
        context_lens_device=torch.tensor(context_lens, dtype=torch.int32),
        logit_rows=torch.tensor(starts[1:]) - 1,
        query_lens=tuple(query_lens),
        context_lens=tuple(context_lens),
    ), num_pages


def on_device(batch: Batch, device: torch.device) -> Batch:
    moved = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name in Batch.__slots__
        for value in [getattr(batch, name)]
    }
    return Batch(**moved)


@pytest.fixture
def batch_of() -> Callable[..., tuple[Batch, int]]:
    return make_batch


@pytest.fixture
def to_device() -> Callable[[Batch, torch.device], Batch]:
    return on_device


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def paged(device: torch.device) -> MakePaged:
    """Makes a PagedCase with random content; q is a strided view, as out of a fused projection."""

    def make(
        query_lens: Sequence[int],
        context_lens: Sequence[int],
        *,
        heads: tuple[int, int, int],
        block_size: int = 16,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> PagedCase:
        num_heads, num_kv_heads, head_dim = heads
        batch, num_pages = make_batch(query_lens, context_lens, block_size, seed)
        generator = torch.Generator().manual_seed(seed)
        pages = torch.full((num_pages, num_kv_heads, 2, block_size, head_dim), torch.nan)
        for table, context in zip(batch.block_tables.long(), context_lens, strict=True):
            tokens = torch.arange(context)
            values = torch.randn(context, num_kv_heads, 2, head_dim, generator=generator)
            pages[table[tokens // block_size], :, :, tokens % block_size] = values
        pages = pages.to(device, dtype)
        fused = torch.randn(batch.num_tokens, num_heads + 3, head_dim, generator=generator)
        return PagedCase(
            q=fused.to(device, dtype)[:, 2:-1],
            pool=LayerPool(pages[:, :, 0], pages[:, :, 1]),
            batch=on_device(batch, device),
        )

    return make


@pytest.fixture
def expect_close() -> Callable[..., None]:
    """Relative error in the norm, held to what the dtype's rounding explains; NaN never passes."""

    def expect(got: torch.Tensor, want: torch.Tensor, dtype: torch.dtype | None = None) -> None:
        assert got.shape == want.shape
        tolerance = TOLERANCES[dtype or got.dtype]
        error = (got.double() - want.double()).norm() / want.double().norm().clamp_min(1e-30)
        assert float(error) <= tolerance, f"relative error {float(error):.2e} over {tolerance:.0e}"

    return expect


@pytest.fixture
def expect_product(expect_close: Callable[..., None], device: torch.device) -> Callable[..., None]:
    """That `product(x, weight, bias)` and `add(x, weight, bias, residual)` are the reference's in
    fp16, from rows with a stride and into some beside which nothing is written."""
    # Not above: Triton decides at its import whether it interprets.
    from engine.kernels.stream_linear import reference

    def made(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device).half()

    def expect(
        product: Callable[..., torch.Tensor],
        add: Callable[..., None],
        sizes: tuple[int, int, int],
        has_bias: bool,
    ) -> None:
        num_rows, num_outputs, num_inputs = sizes
        x = made(num_rows, num_inputs + 8)[:, :num_inputs]
        weight, bias = made(num_outputs, num_inputs), made(num_outputs) if has_bias else None
        expect_close(product(x, weight, bias), reference(x, weight, bias), torch.float16)
        shape = (num_rows, num_outputs + 3)
        wide = torch.full(shape, torch.nan, dtype=torch.float16, device=device)
        residual = wide[:, :num_outputs].copy_(made(num_rows, num_outputs))
        want = reference(x, weight, bias, residual=residual)
        add(x, weight, bias, residual)
        expect_close(residual, want, torch.float16)
        assert wide[:, num_outputs:].isnan().all()

    return expect
