"""The torch backend: a decoder's operations on a CPU, as few and as large calls as torch allows."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F

from engine.cpu.allocator import keep_freed_memory
from engine.cpu.attention import DecodeGroup, PrefillChunk, Scratch, attention_parts
from engine.cpu.linear import fastest_dtype, make_gated_linear, make_linear
from engine.cpu.pages import CpuPool, line_numbers

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attention import LayerPool, Linear
    from engine.batch import Batch

# Up to here layer_norm of [x, -x] beats rms_norm, which torch puts together from eight calls:
# 7 against 12.5 us for one row, 15 against 14 us for 8 (Xeon, bf16, 576 wide).
FEW_ROWS = 4
# So many rows at a time stay in the cache from one call to the next: rotating 2,048 tokens of
# SmolLM2 takes 6.2 ms in one piece and 1.1 ms in pieces (2 cores of a Xeon, 2 MiB of L2 each).
CHUNK_ROWS = 128


@dataclass(slots=True)
class CpuPlan:
    """What the layers of one pass share; filled by the first layer that needs it."""

    batch: Batch
    lines: Tensor | None = None
    cos: Tensor | None = None
    sin: Tensor | None = None
    parts: dict[int | None, list[DecodeGroup | PrefillChunk]] = field(default_factory=dict)


class TorchBackend:
    """`dtype` None takes the one that this processor multiplies fastest."""

    def __init__(self, dtype: torch.dtype | None = None, num_threads: int | None = None) -> None:
        keep_freed_memory()
        torch.set_num_threads(num_threads or len(os.sched_getaffinity(0)))
        self.device = torch.device("cpu")
        self.dtype = dtype or fastest_dtype()
        self._scratch = Scratch(self.dtype)
        self._doubled: dict[int, tuple[Tensor, Tensor]] = {}

    def linear(self, weight: Tensor, bias: Tensor | None) -> Linear:
        return make_linear(weight, bias)

    def allocate_pool(
        self, num_pages: int, num_kv_heads: int, block_size: int, head_dim: int
    ) -> CpuPool:
        return CpuPool.allocate(num_pages, num_kv_heads, block_size, head_dim, self.dtype)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        if x.shape[0] > CHUNK_ROWS:
            out = torch.empty_like(x)
            for piece in _chunks(x.shape[0]):
                out[piece] = F.rms_norm(x[piece], weight.shape, weight, eps)
            return out
        if x.shape[0] > FEW_ROWS:
            return F.rms_norm(x, weight.shape, weight, eps)
        # [x, -x] has mean 0, so its variance is the mean square of x.
        width = weight.shape[0]
        doubled = F.layer_norm(
            torch.cat((x, -x), -1), (2 * width,), self._double(weight), None, eps
        )
        return doubled[..., :width]

    def _double(self, weight: Tensor) -> Tensor:
        """The weight twice, made once; the weight is kept with it, so that its id stays its own."""
        known = self._doubled.get(id(weight))
        if known is None:
            known = self._doubled[id(weight)] = (weight, torch.cat((weight, weight)))
        return known[1]

    def add_rms_norm(
        self, x: Tensor, residual: Tensor, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
        residual = residual.add_(x)
        return self.rms_norm(residual, weight, eps), residual

    def gated_linear(self, weight: Tensor, bias: Tensor | None) -> Linear:
        return make_gated_linear(weight, bias)

    def plan(self, batch: Batch, num_heads: int, num_kv_heads: int, head_dim: int) -> CpuPlan:
        return CpuPlan(batch)

    def rope_and_write(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cos: Tensor,
        sin: Tensor,
        pool: LayerPool,
        plan: CpuPlan,
    ) -> Tensor:
        if plan.lines is None or plan.cos is None or plan.sin is None:
            plan.lines = line_numbers(plan.batch.slots, k.shape[1], pool.k.shape[2])
            plan.cos, plan.sin = _turns(cos, sin, plan.batch.positions)
        rotated = _rotate(_joined(q, k), plan.cos, plan.sin)
        q, k = rotated.split_with_sizes((q.shape[1], k.shape[1]), 1)
        both = torch.cat((k, v), -1)
        cast(CpuPool, pool).lines.index_copy_(0, plan.lines, both.view(-1, both.shape[-1]))
        return q

    def attend(
        self, q: Tensor, pool: LayerPool, plan: CpuPlan, scale: float, window: int | None
    ) -> Tensor:
        own = cast(CpuPool, pool)
        parts = plan.parts.get(window)
        if parts is None:
            parts = attention_parts(plan.batch, own, window, self._scratch)
            plan.parts[window] = parts
        if len(parts) == 1 and isinstance(parts[0].rows, slice):
            return parts[0].attend(q, own, scale)
        out = q.new_empty(q.shape[0], q.shape[1] * q.shape[2])
        for part in parts:
            out[part.rows] = part.attend(q[part.rows], own, scale)
        return out


def _joined(q: Tensor, k: Tensor) -> Tensor:
    """(T, H + H_kv, D) of both: a view where k follows q in memory, as after a fused product."""
    num_heads, head_dim = q.shape[1:]
    follows = k.data_ptr() == q.data_ptr() + num_heads * head_dim * q.element_size()
    if follows and q.stride() == k.stride():
        return q.as_strided((q.shape[0], num_heads + k.shape[1], head_dim), q.stride())
    return torch.cat((q, k), 1)


def _turns(cos: Tensor, sin: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """[cos, cos] and [-sin, sin] of each token, (T, 1, D)."""
    c, s = cos[positions], sin[positions]
    return torch.cat((c, c), -1)[:, None], torch.cat((-s, s), -1)[:, None]


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x cos + (its halves swapped) sin, computed in fp32, in x's dtype."""
    if x.shape[0] <= CHUNK_ROWS:
        wide = x.float()
        swapped = wide.roll(x.shape[-1] // 2, -1)
        return (wide * cos).add_(swapped.mul_(sin)).to(x.dtype)
    out = x.new_empty(x.shape)
    for piece in _chunks(x.shape[0]):
        out[piece] = _rotate(x[piece], cos[piece], sin[piece])
    return out


def _chunks(num_rows: int) -> list[slice]:
    return [slice(start, start + CHUNK_ROWS) for start in range(0, num_rows, CHUNK_ROWS)]
