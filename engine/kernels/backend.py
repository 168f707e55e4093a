"""The decoder's operations on a CUDA device: Triton kernels, and cuBLAS for the large products.

A layer is 9 launches: norm, qkv, rope_write, attention, o (which adds to the residual), norm,
gate_up, silu_mul, down (which adds too). Of 16 rows and fewer it is 8, the gate rides along; of one
or two it is 6, both norms do too. Q/K norms add two.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from engine.attention import LayerPool
from engine.batch import Bounds
from engine.draws import as_words
from engine.errors import EngineError
from engine.kernels import (
    norm,
    packed_attention,
    packed_decode,
    packed_prefill,
    paged_decode,
    paged_prefill,
    splits,
)
from engine.kernels.blocks import ceil_div
from engine.kernels.dense_prefill import (
    DensePrompt,
    attend_prompt,
    dense_prompts,
    sizes,
)
from engine.kernels.launching import compiling_ahead
from engine.kernels.linears import NormProduct, ResidualProduct
from engine.kernels.packed_pool import MIN_BLOCK_SIZE, PackedLayerPool, PackedPool
from engine.kernels.packed_seal import seal
from engine.kernels.rope_write import rope_write
from engine.kernels.sampling import sample_rows
from engine.kernels.tile_map import count_tiles, map_tiles

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attention import NormLinear, ResidualLinear
    from engine.batch import Batch
    from engine.kernels.packed_attention import LongChunk
    from engine.kv.formats import RecordLayout
    from engine.models.progress import Progress
    from engine.sampling import SamplingStep

# Where there is no device to ask (the interpreter): as many as an H200 has, so the same cuts.
DEFAULT_SMS = 132
# Of a decode kernel, whether its pages are packed or not.
MOST_PROGRAMS_PER_SM = max(splits.PROGRAMS_PER_SM, packed_decode.PROGRAMS_PER_SM)


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """How one pass cuts its attention.

    Sequences with one token go to the decode kernel, all others to the prefill kernel, in whatever
    order they stand. `decode_tables` are the batch's up to the last sequence with one token, None
    when there is none; `tile_map` (num_tiles, 2) is None when there are no others. In layers with
    no window, `dense` prompts go to cuDNN, and `rest_map` stands for `tile_map`. Over packed pages
    `long_chunks` are left out of `tile_map`.
    """

    batch: Batch
    decode_tables: tuple[Tensor, Tensor, Tensor] | None
    num_splits: int
    tile_map: Tensor | None
    prefill_tiles: paged_prefill.PrefillTiles | None
    dense: tuple[DensePrompt, ...] = ()
    rest_map: Tensor | None = None
    long_chunks: tuple[LongChunk, ...] = ()

    def tiles_of(self, window: int | None) -> Tensor | None:
        """The tile map of a layer with this window."""
        return self.rest_map if self.dense and window is None else self.tile_map


class TritonBackend:
    """Implements engine.attention.Backend on `device`.

    Also runs on the CPU under Triton's interpreter, for tests.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype
        self._num_sms = DEFAULT_SMS
        self._compiled: set[tuple[object, ...]] = set()
        self._workspaces: dict[tuple[int, int], splits.DecodeWorkspace] = {}
        if device.type == "cuda":
            self._num_sms = torch.cuda.get_device_properties(device).multi_processor_count

    def norm_linear(
        self, norm_weight: Tensor, weight: Tensor, bias: Tensor | None, eps: float
    ) -> NormLinear:
        return NormProduct(norm_weight, *self._held(weight, bias), eps, gated=False)

    def norm_gated_linear(
        self, norm_weight: Tensor, weight: Tensor, bias: Tensor | None, eps: float
    ) -> NormLinear:
        return NormProduct(norm_weight, *self._held(weight, bias), eps, gated=True)

    def residual_linear(self, weight: Tensor, bias: Tensor | None) -> ResidualLinear:
        return ResidualProduct(*self._held(weight, bias))

    def _held(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Both themselves when they are on the device in this dtype, else copies that are."""
        own_bias = None if bias is None else bias.to(self.device, self.dtype)
        return weight.to(self.device, self.dtype), own_bias

    def allocate_pool(
        self, num_pages: int, num_kv_heads: int, block_size: int, head_dim: int
    ) -> LayerPool:
        """Two views of one uninitialised tensor (num_pages, H_kv, 2, block_size, D).

        The K and V of one head in one page are one dense run of memory: 8 KiB for 16 tokens of 128
        channels in bfloat16, which a program reads as whole lines.
        """
        shape = (num_pages, num_kv_heads, 2, block_size, head_dim)
        pages = torch.empty(shape, dtype=self.dtype, device=self.device)
        return LayerPool(pages[:, :, 0], pages[:, :, 1])

    def allocate_packed_pool(
        self, num_wide: int, num_packed: int, num_kv_heads: int, layout: RecordLayout
    ) -> LayerPool:
        """Packed pages and wide ones, uninitialised. Raises: EngineError if pages are too small."""
        if layout.block_size < MIN_BLOCK_SIZE:
            raise EngineError(
                f"On a GPU packed pages have {MIN_BLOCK_SIZE} tokens or more, not"
                f" {layout.block_size}",
                "Leave --block-size out: it is 64 where pages are packed.",
            )
        wide = self.allocate_pool(num_wide, num_kv_heads, layout.block_size, layout.head_dim)
        shape = (num_packed, num_kv_heads, layout.num_bytes)
        records = torch.empty(shape, dtype=torch.uint8, device=self.device)
        return PackedLayerPool.of(PackedPool(records, wide, layout))

    def compiling_ahead(self, progress: Progress) -> AbstractContextManager[None]:
        return compiling_ahead(self.device, progress)

    def prepare(self, pools: list[LayerPool]) -> None:
        """The device's memory is there from its allocation on."""

    def backed_bytes(self, pools: list[LayerPool]) -> int:
        return sum(_num_bytes(pool) for pool in pools)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return norm.rms_norm(x, weight, eps)

    def plan(self, batch: Batch, num_heads: int, num_kv_heads: int, head_dim: int) -> AttentionPlan:
        """Split counts and prefill tiles, from the lengths on the host: the device is not asked."""
        bounds = batch.bounds or _bounds(batch)
        decode_tables, num_splits, num_decode = None, 1, bounds.num_decode
        if num_decode:
            decode_tables = (
                batch.block_tables[:num_decode],
                batch.query_starts[: num_decode + 1],
                batch.context_lens_device[:num_decode],
            )
            num_splits = self._num_splits(batch, num_decode * num_kv_heads, bounds.context)
        if not bounds.num_prefill:
            return AttentionPlan(batch, decode_tables, num_splits, None, None)
        group = num_heads // num_kv_heads
        tiles = self._prefill_tiles(batch, group, num_kv_heads)
        if batch.packing is not None:
            # Never dense: what a token sees must not depend on where its prompt was cut.
            chunks = tuple(packed_attention.long_chunks(batch, batch.packing, group, self.dtype))
            if chunks:
                rest = _rest_map(batch, chunks, group, tiles.rows)
            else:
                rest = _tile_map(batch, group, tiles.rows)
            parts = (batch, decode_tables, num_splits, rest, tiles)
            return AttentionPlan(*parts, long_chunks=chunks)
        tile_map = _tile_map(batch, group, tiles.rows)
        dense = tuple(dense_prompts(batch, head_dim, self.dtype))
        rest_map = _rest_map(batch, dense, group, tiles.rows) if dense else None
        return AttentionPlan(batch, decode_tables, num_splits, tile_map, tiles, dense, rest_map)

    def _num_splits(self, batch: Batch, num_rows: int, context: int) -> int:
        if batch.packing is not None:
            return packed_attention.choose_splits(num_rows, context, self._num_sms, self.dtype)
        min_split = paged_decode.choose_tiles(self.dtype).min_split
        return splits.choose_splits(num_rows, context, self._num_sms, min_split)

    def _prefill_tiles(
        self, batch: Batch, group: int, num_kv_heads: int
    ) -> paged_prefill.PrefillTiles:
        query_lens = batch.query_lens if batch.bounds is None else (batch.num_tokens,)
        sizes = (query_lens, group, num_kv_heads, self._num_sms, self.dtype)
        if batch.packing is not None:
            return packed_prefill.choose_tiles(*sizes, batch.packing.block_size)
        return paged_prefill.choose_tiles(*sizes)

    def rope_and_write(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cos: Tensor,
        sin: Tensor,
        pool: LayerPool,
        plan: AttentionPlan,
    ) -> Tensor:
        batch = plan.batch
        turned = rope_write(q, k, v, cos, sin, batch.positions, batch.slots, pool)
        if batch.packing is not None and batch.packing.seals is not None:
            seal(_packed(pool), batch.packing.seals)
        return turned

    def attend(
        self, q: Tensor, pool: LayerPool, plan: AttentionPlan, scale: float, window: int | None
    ) -> Tensor:
        out = torch.empty((q.shape[0], q.shape[1] * q.shape[2]), dtype=q.dtype, device=q.device)
        if plan.batch.packing is not None:
            self._attend_packed(q, _packed(pool), plan, out, scale, window)
            return out
        heads = (q.shape[1:], pool.k.shape[1:])
        if heads not in self._compiled:
            self._compiled.add(heads)
            self._compile(q[:1], pool)
            self._plan_dense(q, pool)
        self._attend(q, pool, plan, out, scale, window)
        return out

    def _attend_packed(
        self,
        q: Tensor,
        pool: PackedPool,
        plan: AttentionPlan,
        out: Tensor,
        scale: float,
        window: int | None,
    ) -> None:
        workspace = self._workspace(q, pool.wide)
        # A layer with a window has kernels of its own, as each format has.
        kind = (q.shape[1:], pool.layout, window is not None)
        if kind not in self._compiled:
            self._compiled.add(kind)
            packed_attention.compile_all(q[:1], pool, window, workspace)
        packed_attention.attend(q, pool, plan, out, scale, window, workspace)

    def _attend(
        self,
        q: Tensor,
        pool: LayerPool,
        plan: AttentionPlan,
        out: Tensor,
        scale: float,
        window: int | None,
    ) -> None:
        batch = plan.batch
        if plan.decode_tables is not None:
            paged_decode.paged_decode(
                q,
                pool,
                *plan.decode_tables,
                out,
                scale=scale,
                window=window,
                num_splits=plan.num_splits,
                workspace=self._workspace(q, pool),
            )
        if plan.dense and window is None:
            for prompt in plan.dense:
                out[prompt.rows] = attend_prompt(q, pool, prompt, scale)
        tile_map = plan.tiles_of(window)
        if tile_map is not None and plan.prefill_tiles is not None:
            paged_prefill.paged_prefill(
                q,
                pool,
                batch.block_tables,
                batch.query_starts,
                batch.context_lens_device,
                tile_map,
                out,
                tiles=plan.prefill_tiles,
                scale=scale,
                window=window,
            )

    def named(self) -> AbstractContextManager[None]:
        """Kernels have names."""
        return nullcontext()

    def sample(self, logits: Tensor, step: SamplingStep) -> Tensor:
        edited = step.edited(logits)
        if step.draws is None:
            return edited.argmax(-1)
        draws = torch.from_numpy(as_words(step.draws))
        return sample_rows(edited, draws.to(self.device, non_blocking=True))

    def _workspace(self, q: Tensor, pool: LayerPool) -> splits.DecodeWorkspace:
        """One for all layers, which run one after another; graphs keep pointing to it."""
        group, head_dim = q.shape[1] // pool.k.shape[1], q.shape[2]
        if (group, head_dim) not in self._workspaces:
            self._workspaces[group, head_dim] = splits.allocate_workspace(
                MOST_PROGRAMS_PER_SM * self._num_sms, group, head_dim, self.device
            )
        return self._workspaces[group, head_dim]

    def _plan_dense(self, q: Tensor, pool: LayerPool) -> None:
        """Has cuDNN plan for all that chunks as long as the first pass, the longest, may need."""
        table = torch.zeros(1, dtype=torch.int32, device=self.device)
        for size in sizes(len(q), q.shape[2], q.dtype):
            attend_prompt(q[:1], pool, DensePrompt(0, 0, 1, size, table), 1.0)

    def _compile(self, q: Tensor, pool: LayerPool) -> None:
        """Runs each cut of the attention kernels on a token of page 0, and drops what comes out.

        So the first pass pays for the compiler, and no step later finds a cut that is not there.
        """
        zeros = torch.zeros((1, 1), dtype=torch.int32, device=self.device)
        lens = torch.ones(1, dtype=torch.int32, device=self.device)
        tables = (zeros, torch.tensor([0, 1], dtype=torch.int32, device=self.device), lens)
        out = torch.empty((1, q.shape[1] * q.shape[2]), dtype=q.dtype, device=q.device)
        workspace = self._workspace(q, pool)
        for num_splits in (1, 2):
            paged_decode.paged_decode(
                q, pool, *tables, out, scale=1.0, num_splits=num_splits, workspace=workspace
            )
        group = q.shape[1] // pool.k.shape[1]
        for tiles in paged_prefill.cuts_of(self.dtype):
            tile_map = map_tiles(tables[1], 1, group, tiles.rows)
            paged_prefill.paged_prefill(q, pool, *tables, tile_map, out, tiles=tiles, scale=1.0)


def _packed(pool: LayerPool) -> PackedPool:
    assert isinstance(pool, PackedLayerPool), "a batch with packing goes with packed pools"
    return pool.packed


def _num_bytes(pool: LayerPool) -> int:
    if isinstance(pool, PackedLayerPool):
        return pool.num_bytes
    return int(pool.k.nbytes + pool.v.nbytes)


def _tile_map(batch: Batch, group: int, rows: int) -> Tensor:
    """Of all sequences with more than one token."""
    if batch.bounds is None:
        num_tiles = count_tiles(batch.query_lens, group, rows)
    else:
        # Full tiles for all tokens, and one that is not full for each sequence.
        num_tiles = ceil_div(batch.num_tokens * group, rows) + batch.bounds.num_prefill
    return map_tiles(batch.query_starts, num_tiles, group, rows)


def _rest_map(
    batch: Batch, left_out: SequenceOf[DensePrompt | LongChunk], group: int, rows: int
) -> Tensor | None:
    """The tile map of a batch as if some sequences brought nothing; None if nothing is left."""
    lens = list(batch.query_lens)
    for each in left_out:
        lens[each.sequence] = 0
    num_tiles = count_tiles(lens, group, rows)
    if not num_tiles:
        return None
    starts = torch.tensor([0, *accumulate(lens)], dtype=torch.int32)
    on_device = starts.to(batch.query_starts.device, non_blocking=True)
    return map_tiles(on_device, num_tiles, group, rows)


def _bounds(batch: Batch) -> Bounds:
    """Of a batch with lengths on the host; the context is the longest of those that decode."""
    num_decode = context = num_prefill = 0
    for place, (new, held) in enumerate(zip(batch.query_lens, batch.context_lens, strict=True), 1):
        if new == 1:
            num_decode, context = place, max(context, held)
        num_prefill += new > 1
    return Bounds(num_decode, num_prefill, context)
