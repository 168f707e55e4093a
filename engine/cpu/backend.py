"""The CPU's backend: matrix products are oneDNN's, what lies between them is compiled here."""

from __future__ import annotations

import struct
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import torch

from engine.attention import Hidden
from engine.cpu.allocator import keep_freed_memory
from engine.cpu.attend import attend
from engine.cpu.attention import scratch_floats, tile_tokens, tiles_of
from engine.cpu.lanes import VECTOR
from engine.cpu.linear import fastest_dtype, make_gated_linear, make_linear
from engine.cpu.norm import normalize
from engine.cpu.pages import CpuPool, PackedRecords
from engine.cpu.populate import populate_pools
from engine.cpu.rope import rotate_and_write
from engine.cpu.rows import BF16, FP16, FP32
from engine.cpu.team import Team
from engine.cpu.unpack import layout_words
from engine.devices import thread_count
from engine.kv.formats import BF16 as UNPACKED_PAGES
from engine.kv.formats import RecordLayout
from engine.sampling import sample

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attention import LayerPool, Linear, NormLinear, ResidualLinear
    from engine.batch import Batch
    from engine.models.progress import Progress
    from engine.sampling import SamplingStep

KINDS: Final = {torch.bfloat16: BF16, torch.float16: FP16, torch.float32: FP32}
# Scores are powers of 2, which cost less than powers of e.
LOG2_E: Final = 1.4426950408889634
NO_WINDOW: Final = 1 << 40
# Of a pool that has none: no page of it is packed, so nobody looks.
_NO_LAYOUT: Final = RecordLayout(UNPACKED_PAGES, 1, 1, 4)
# Of a pool that has none: no page of it is packed, so nobody looks.
NO_RECORDS: Final = PackedRecords(
    torch.empty(0, dtype=torch.uint8), _NO_LAYOUT, layout_words(_NO_LAYOUT)
)
# Up to here one thread is done before a second one has begun.
FEW_ELEMENTS: Final = 8192


@dataclass(frozen=True, slots=True)
class CpuPlan:
    """What the layers of one pass share. `tiles` (tiles, 4) is cut as attention.py says."""

    batch: Batch
    tiles: Tensor


@dataclass(frozen=True, slots=True)
class NormThenProduct:
    """Adds what is pending and normalises in one loop, then multiplies."""

    backend: CpuBackend
    norm_weight: Tensor
    product: Linear
    eps: float

    def __call__(self, hidden: Hidden) -> tuple[Tensor, Hidden]:
        normed = self.backend.norm_of(hidden, self.norm_weight, self.eps)
        return self.product(normed), Hidden(hidden.residual)


@dataclass(frozen=True, slots=True)
class PendingProduct:
    """Leaves the product pending: the norm that follows adds it on its way."""

    product: Linear

    def __call__(self, x: Tensor, hidden: Hidden) -> Hidden:
        return Hidden(hidden.residual, self.product(x))


class CpuBackend:
    """`dtype` None takes the one that this processor multiplies fastest."""

    def __init__(self, dtype: torch.dtype | None = None, num_threads: int | None = None) -> None:
        keep_freed_memory()
        num_threads = thread_count(num_threads)
        torch.set_num_threads(num_threads)
        self.device = torch.device("cpu")
        self.dtype = dtype or fastest_dtype()
        self._team = Team(num_threads)

    def norm_linear(
        self, norm_weight: Tensor, weight: Tensor, bias: Tensor | None, eps: float
    ) -> NormLinear:
        return NormThenProduct(self, norm_weight, make_linear(weight, bias), eps)

    def norm_gated_linear(
        self, norm_weight: Tensor, weight: Tensor, bias: Tensor | None, eps: float
    ) -> NormLinear:
        return NormThenProduct(self, norm_weight, make_gated_linear(weight, bias), eps)

    def residual_linear(self, weight: Tensor, bias: Tensor | None) -> ResidualLinear:
        return PendingProduct(make_linear(weight, bias))

    def allocate_pool(
        self, num_pages: int, num_kv_heads: int, block_size: int, head_dim: int
    ) -> CpuPool:
        return CpuPool.allocate(num_pages, num_kv_heads, block_size, head_dim, self.dtype)

    def allocate_packed_pool(
        self, num_wide: int, num_packed: int, num_kv_heads: int, layout: RecordLayout
    ) -> CpuPool:
        return CpuPool.allocate_packed(num_wide, num_packed, num_kv_heads, layout, self.dtype)

    def compiling_ahead(self, progress: Progress) -> AbstractContextManager[None]:
        return nullcontext()

    def prepare(self, pools: list[LayerPool]) -> None:
        populate_pools(cast(list[CpuPool], pools))

    def backed_bytes(self, pools: list[LayerPool]) -> int:
        return sum(pool.populated_bytes for pool in cast(list[CpuPool], pools))

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return self._normalize(x, 0, weight, eps)

    def norm_of(self, hidden: Hidden, weight: Tensor, eps: float) -> Tensor:
        """rms_norm of the hidden states, whose residual is their sum afterwards."""
        if hidden.pending is None:
            return self._normalize(hidden.residual, 0, weight, eps)
        return self._normalize(hidden.pending, hidden.residual.data_ptr(), weight, eps)

    def _normalize(self, x: Tensor, residual: int, weight: Tensor, eps: float) -> Tensor:
        """x (T, N), or (T, H, N) whose heads lie side by side."""
        out = torch.empty(x.shape, dtype=x.dtype)
        width = x.shape[-1]
        self._team.reserve(2 * (width + VECTOR))
        run = self._team.run_alone if x.numel() <= FEW_ELEMENTS else self._team.run
        run(
            normalize,
            KINDS[x.dtype],
            x.data_ptr(),
            residual,
            weight.data_ptr(),
            out.data_ptr(),
            x.shape[0],
            x.shape[1] if x.dim() == 3 else 1,
            x.stride(0),
            width,
            _bits(eps),
            KINDS[weight.dtype],
        )
        return out

    def plan(self, batch: Batch, num_heads: int, num_kv_heads: int, head_dim: int) -> CpuPlan:
        return CpuPlan(batch, tiles_of(batch, num_heads // num_kv_heads))

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
        out = torch.empty(q.shape, dtype=q.dtype)
        num_tokens, num_heads, head_dim = q.shape
        self._team.reserve(2 * (head_dim + VECTOR))
        run = self._team.run_alone if q.numel() <= FEW_ELEMENTS else self._team.run
        run(
            rotate_and_write,
            KINDS[q.dtype],
            q.data_ptr(),
            k.data_ptr(),
            v.data_ptr(),
            out.data_ptr(),
            cast(CpuPool, pool).memory.data_ptr(),
            cos.data_ptr(),
            sin.data_ptr(),
            plan.batch.positions.data_ptr(),
            plan.batch.slots.data_ptr(),
            num_tokens,
            num_heads,
            k.shape[1],
            head_dim,
            pool.k.shape[2],
            q.stride(0),
            k.stride(0),
            v.stride(0),
        )
        packing = plan.batch.packing
        if packing is not None and packing.seals is not None:
            cast(CpuPool, pool).seal(packing.seals)
        return out

    def attend(
        self, q: Tensor, pool: LayerPool, plan: CpuPlan, scale: float, window: int | None
    ) -> Tensor:
        num_tokens, num_heads, head_dim = q.shape
        num_kv_heads, block_size = pool.k.shape[1:3]
        group = num_heads // num_kv_heads
        out = q.new_empty(num_tokens, num_heads * head_dim)
        pages = cast(CpuPool, pool)
        packing = plan.batch.packing
        packed = pages.packed or NO_RECORDS
        self._team.reserve(scratch_floats(group, head_dim))
        self._team.run(
            attend,
            KINDS[q.dtype],
            q.data_ptr(),
            out.data_ptr(),
            pages.memory.data_ptr(),
            plan.batch.block_tables.data_ptr(),
            plan.tiles.data_ptr(),
            plan.tiles.shape[0],
            num_kv_heads,
            group,
            head_dim,
            block_size,
            plan.batch.block_tables.stride(0),
            q.stride(0),
            window or NO_WINDOW,
            tile_tokens(group) * group,
            _bits(scale * LOG2_E),
            packed.memory.data_ptr(),
            0 if packing is None else packing.num_packed,
            plan.batch.slots.data_ptr(),
            packed.words.data_ptr(),
        )
        return out

    def named(self) -> AbstractContextManager[None]:
        return self._team.named()

    def sample(self, logits: Tensor, step: SamplingStep) -> Tensor:
        return sample(logits, step)


def _bits(number: float) -> int:
    """The 32 bits of a float, as the integer that a compiled loop turns back."""
    return int(struct.unpack("<i", struct.pack("<f", number))[0])
