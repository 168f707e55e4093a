"""The pages of one layer on a CPU, as the compiled loops read and write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from engine.attention import LayerPool
from engine.cpu.unpack import layout_words
from engine.kv.packing import pack

if TYPE_CHECKING:
    from torch import Tensor

    from engine.kv.formats import RecordLayout


class PackedRecords(NamedTuple):
    """The packed pages beside a layer's wide ones.

    `memory` (num_packed, H_kv, layout.num_bytes) uint8; `words` is the layout for compiled loops.
    """

    memory: Tensor
    layout: RecordLayout
    words: Tensor


class CpuPool(LayerPool):
    """K and V as the seam has them, and the memory that both are views of.

    `memory` (num_pages, H_kv, 2, block_size * D): of a page and head first K as (D, block_size), so
    that one query meets the tokens of a page side by side, then V as (block_size, D).
    """

    memory: Tensor
    packed: PackedRecords | None = None
    populated_bytes: int = 0  # that the system has backed before their first use

    @classmethod
    def allocate(
        cls,
        num_pages: int,
        num_kv_heads: int,
        block_size: int,
        head_dim: int,
        dtype: torch.dtype,
    ) -> CpuPool:
        """Zeros, whose memory the system gives when it is first written."""
        # numpy's zeros are the system's own; torch's are written, 1.4 s for 4 GiB.
        bits = {2: np.int16, 4: np.int32}[dtype.itemsize]
        zeros = np.zeros((num_pages, num_kv_heads, 2, block_size * head_dim), bits)
        memory = torch.from_numpy(zeros).view(dtype)
        heads = (num_pages, num_kv_heads)
        pool = cls(
            memory[:, :, 0].view(*heads, head_dim, block_size).transpose(2, 3),
            memory[:, :, 1].view(*heads, block_size, head_dim),
        )
        pool.memory = memory
        return pool

    @classmethod
    def allocate_packed(
        cls,
        num_wide: int,
        num_packed: int,
        num_kv_heads: int,
        layout: RecordLayout,
        dtype: torch.dtype,
    ) -> CpuPool:
        """The same with packed pages beside them."""
        pool = cls.allocate(num_wide, num_kv_heads, layout.block_size, layout.head_dim, dtype)
        zeros = np.zeros((num_packed, num_kv_heads, layout.num_bytes), np.uint8)
        pool.packed = PackedRecords(torch.from_numpy(zeros), layout, layout_words(layout))
        return pool

    def seal(self, seals: Tensor) -> None:
        """Packs wide pages; `seals` (n, 2) names the wide and the packed page of each."""
        assert self.packed is not None
        wide, packed = seals.unbind(1)
        records = pack(self.k[wide], self.v[wide], self.packed.layout)
        self.packed.memory[packed] = records
