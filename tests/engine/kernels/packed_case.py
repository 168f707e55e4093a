"""Sequences in packed and wide pages: what attention over them is tested on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from engine.attention import LayerPool
from engine.kernels.packed_pool import PackedPool
from engine.kv.formats import KV_FORMATS, CodeFormat, KVFormat, RecordLayout
from engine.kv.packing import pack

ODD = {
    "per token": KVFormat(CodeFormat(4), CodeFormat(4)),
    "symmetric": KVFormat(CodeFormat(4, axis="channel", asym=False), CodeFormat(2, asym=False)),
    "groups": KVFormat(CodeFormat(8, group=32), CodeFormat(4, group=32)),
    "symmetric groups": KVFormat(CodeFormat(2, asym=False, group=16), CodeFormat(8, asym=False)),
    "fp8 per token": KVFormat(
        CodeFormat(8, "float", asym=False), CodeFormat(8, "float", asym=False, group=32)
    ),
    "K alone": KVFormat(CodeFormat(2, axis="channel"), CodeFormat(16)),
    "V alone": KVFormat(CodeFormat(16), CodeFormat(8)),
}
FORMATS = KV_FORMATS | ODD
# All formats in one shape, and the other shapes in a few: a compiled kernel takes seconds.
ON_GPU = [(name, 64, (32, 8, 128), torch.bfloat16) for name in FORMATS]
ON_GPU += [
    (name, *sizes)
    for name in ("int4", "k4v2", "symmetric groups")
    for sizes in [
        (16, (9, 3, 64), torch.bfloat16),
        (64, (28, 4, 128), torch.bfloat16),
        (128, (16, 16, 64), torch.bfloat16),
        (64, (28, 4, 128), torch.float16),
        (32, (8, 2, 128), torch.float32),
    ]
]
MOST_TOKENS = 400  # of a sequence


@dataclass(frozen=True)
class PackedCase:
    """Every wide element that holds no token is NaN, and so is all meta that no page needs."""

    q: torch.Tensor  # (T, H, D), a strided view
    pool: PackedPool
    block_tables: torch.Tensor
    slots: torch.Tensor
    query_lens: tuple[int, ...]
    context_lens: tuple[int, ...]

    @property
    def query_starts(self) -> torch.Tensor:
        return self._on_device([0, *accumulate(self.query_lens)])

    @property
    def tables(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """As the wrappers take them: block tables, query starts, context lengths, slots."""
        return (
            self.block_tables,
            self.query_starts,
            self._on_device(self.context_lens),
            self.slots,
        )

    @property
    def scale(self) -> float:
        return float(self.q.shape[2] ** -0.5)

    def poisoned_output(self) -> torch.Tensor:
        return torch.full_like(self.q, torch.nan).flatten(1)

    def _on_device(self, numbers: Sequence[int]) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.int32, device=self.q.device)


def rows_like_keys(*shape: int, draw: torch.Generator) -> torch.Tensor:
    """Elements whose channels differ in mean and range, as K's do."""
    spread = torch.rand(shape[-1], generator=draw) + 0.3
    mean = torch.randn(shape[-1], generator=draw)
    return torch.randn(shape, generator=draw) * spread + mean


def make_packed(
    query_lens: Sequence[int],
    context_lens: Sequence[int],
    form: KVFormat,
    *,
    heads: tuple[int, int, int] = (4, 2, 64),
    block_size: int = 16,
    dtype: torch.dtype = torch.float16,
    num_sinks: int = 1,
    seed: int = 0,
    device: torch.device | None = None,
) -> PackedCase:
    """Sequence s has brought query_lens[s] of context_lens[s] tokens; the pages lie shuffled.

    A seed gives a sequence the same content, however long it is and whatever the chunks.
    """
    num_heads, num_kv_heads, head_dim = heads
    layout = RecordLayout(form, block_size, head_dim, dtype.itemsize)
    counts = [-(-context // block_size) for context in context_lens]
    shuffle = random.Random(seed)
    packed_ids = list(range(sum(counts) + 2))
    wide_ids = list(range(sum(counts) + 2))
    shuffle.shuffle(packed_ids)
    shuffle.shuffle(wide_ids)
    num_packed = len(packed_ids)
    wide = torch.full((len(wide_ids), num_kv_heads, 2, block_size, head_dim), torch.nan)
    wide = wide.to(dtype)
    records = torch.full((num_packed, num_kv_heads, layout.num_bytes), 255, dtype=torch.uint8)
    tables = torch.zeros(len(counts), max(counts) + 1, dtype=torch.int32)
    slots, queries = [], []
    for row, (new, context) in enumerate(zip(query_lens, context_lens, strict=True)):
        draw = torch.Generator().manual_seed(seed + row)
        content = torch.full((counts[row] * block_size, num_kv_heads, 2, head_dim), torch.nan)
        drawn = rows_like_keys(MOST_TOKENS, num_kv_heads, 2, head_dim, draw=draw)
        content[:context] = drawn[:context]
        pages = content.to(dtype).unflatten(0, (-1, block_size)).permute(0, 2, 3, 1, 4)
        drawn = torch.randn(MOST_TOKENS, num_heads, head_dim, generator=draw)
        queries.append(drawn[context - new : context])
        for page in range(counts[row]):
            is_wide = page < num_sinks or (page + 1) * block_size > context - new
            if is_wide:
                place = wide_ids.pop()
                wide[place] = pages[page]
            if page < num_sinks:
                tables[row, page] = num_packed + place
            elif (page + 1) * block_size < context:
                packed = packed_ids.pop()
                tables[row, page] = packed
                records[packed] = pack(pages[page][:, 0], pages[page][:, 1], layout)
            inside = range(max(page * block_size, context - new), (page + 1) * block_size)
            slots += [
                place * block_size + at % block_size
                for at in inside
                if context - new <= at < context
            ]
    q = torch.cat([torch.zeros(0, num_heads, head_dim), *queries])
    fused = torch.nn.functional.pad(q.to(device, dtype), (0, 0, 2, 1))
    wide = wide.to(device)
    return PackedCase(
        q=fused[:, 2:-1],
        pool=PackedPool(records.to(device), LayerPool(wide[:, :, 0], wide[:, :, 1]), layout),
        block_tables=tables.to(device),
        slots=torch.tensor(slots, device=device),
        query_lens=tuple(query_lens),
        context_lens=tuple(context_lens),
    )
