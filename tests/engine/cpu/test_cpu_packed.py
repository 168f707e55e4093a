"""Attention over packed pages is plain attention over what the records hold."""

from __future__ import annotations

import pytest
import torch

from engine.cpu.backend import CpuBackend
from engine.kv.formats import KV_FORMATS, CodeFormat, KVFormat, RecordLayout
from engine.kv.packing import pack, unpack
from engine.quality.lone import LoneSequence

HEADS, KV_HEADS = 6, 2
ODD = {
    "per token": KVFormat(CodeFormat(4), CodeFormat(4)),
    "symmetric": KVFormat(CodeFormat(4, axis="channel", asym=False), CodeFormat(4, asym=False)),
    "fp8 per token": KVFormat(CodeFormat(8, "float"), CodeFormat(8, "float")),
    "groups": KVFormat(CodeFormat(2, axis="channel"), CodeFormat(4, group=32)),
    "K alone": KVFormat(CodeFormat(4, axis="channel"), CodeFormat(16)),
    "V alone": KVFormat(CodeFormat(16), CodeFormat(8)),
}
FORMATS = KV_FORMATS | ODD


class Packed:
    """One sequence's q, k and v, and the pool that they are written to."""

    def __init__(self, form, count, block_size=64, head_dim=64, num_sinks=1, dtype=torch.float32):
        torch.manual_seed(0)
        self.backend = CpuBackend(dtype, 2)
        self.layout = RecordLayout(form, block_size, head_dim, dtype.itemsize)
        self.num_sinks, self.count = num_sinks, count
        mean = 5 * torch.randn(KV_HEADS, head_dim)
        self.q = torch.randn(count, HEADS, head_dim).to(dtype)
        self.k = (torch.randn(count, KV_HEADS, head_dim) + mean).to(dtype)
        self.v = torch.randn(count, KV_HEADS, head_dim).to(dtype)

    def attend(self, chunks, window=None):
        """(T, H * D), computed in passes of these lengths."""
        size, head_dim = self.layout.block_size, self.layout.head_dim
        lone = LoneSequence(self.count, size, max(chunks), self.num_sinks)
        pool = self.backend.allocate_packed_pool(
            lone.num_wide, lone.num_packed, KV_HEADS, self.layout
        )
        pool.k.fill_(torch.nan)
        pool.v.fill_(torch.nan)
        still = torch.ones(self.count, head_dim // 2), torch.zeros(self.count, head_dim // 2)
        outs, start = [], 0
        for length in chunks:
            rows = slice(start, start + length)
            batch = lone.batch([0] * length, start)
            plan = self.backend.plan(batch, HEADS, KV_HEADS, head_dim)
            q = self.backend.rope_and_write(
                self.q[rows], self.k[rows], self.v[rows], *still, pool, plan
            )
            outs.append(self.backend.attend(q, pool, plan, head_dim**-0.5, window))
            start += length
        return torch.cat(outs)

    def expected(self, window=None):
        """In fp64, token by token: whole pages before its own as their records have them."""
        size = self.layout.block_size
        seen = [x.transpose(0, 1).double() for x in (self.k, self.v)]  # (H_kv, T, D)
        packed = [x.clone() for x in seen]
        for page in range(self.num_sinks, self.count // size):
            rows = slice(page * size, (page + 1) * size)
            k, v = self.k[rows].transpose(0, 1), self.v[rows].transpose(0, 1)
            record = pack(k, v, self.layout)
            for x, part in zip(packed, unpack(record, self.layout, k.dtype), strict=True):
                x[:, rows] = part.double()
        group, outs = HEADS // KV_HEADS, []
        for t in range(self.count):
            first, own = max(0, t + 1 - (window or self.count)), t // size * size
            k, v = (
                torch.cat([p[:, first:own], x[:, max(first, own) : t + 1]], 1)
                .repeat_interleave(group, 0)
                for p, x in zip(packed, seen, strict=True)
            )  # fmt: skip
            q = self.q[t].double()
            weights = torch.einsum("hd,hcd->hc", q, k) * q.shape[-1] ** -0.5
            outs.append(torch.einsum("hc,hcd->hd", weights.softmax(-1), v).flatten())
        return torch.stack(outs)


def error(out, expected):
    return ((out.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_as_it_was_written(name):
    case = Packed(FORMATS[name], 150)
    assert error(case.attend([150]), case.expected()) < 2e-6


@pytest.mark.parametrize(
    ("block_size", "head_dim", "num_sinks", "window"),
    [(16, 32, 0, None), (32, 96, 1, 40), (128, 128, 1, None), (64, 64, 2, 70), (64, 64, 0, 200)],
)
def test_any_page_head_and_window(block_size, head_dim, num_sinks, window):
    case = Packed(KV_FORMATS["int4"], 290, block_size, head_dim, num_sinks)
    assert error(case.attend([290], window), case.expected(window)) < 2e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_wide_pages_of_any_dtype(dtype):
    case = Packed(FORMATS["V alone"], 150, dtype=dtype)
    assert error(case.attend([150]), case.expected()) < 8e-3


@pytest.mark.parametrize("name", ["int4", "int2", "fp8"])
def test_how_a_prompt_is_cut_changes_nothing(name):
    case = Packed(KV_FORMATS[name], 200)
    whole = case.attend([200])
    for chunks in ([64, 64, 72], [1] * 130 + [70], [63, 1, 1, 135], [100, 100]):
        assert error(case.attend(chunks), whole.double()) < 1e-6


@pytest.mark.parametrize("position", [0, 63, 64, 100, 127, 128, 170])
@pytest.mark.parametrize("name", ["int8", "int4", "k4v2"])
def test_one_key_that_outweighs_all_gives_its_value_bit_for_bit(name, position):
    """Its score lies hundreds of nats above all others, so that its weight is exactly 1."""
    case = Packed(KV_FORMATS[name], 192)
    case.k = torch.zeros_like(case.k)
    case.k[position] = 100.0
    case.q = torch.full_like(case.q, 10.0)
    out = case.attend([192])[-1].view(HEADS, -1)
    assert torch.equal(out, case.expected()[-1].float().view(HEADS, -1))
