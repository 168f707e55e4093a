"""Records hold what was packed: nearest codes, numbers that turn them back, each in its place."""

from __future__ import annotations

import itertools

import pytest
import torch

from engine.errors import EngineError
from engine.kv.formats import KV_FORMATS, CodeFormat, KVFormat, RecordLayout
from engine.kv.packing import FP16_MAX, dequantise, pack, quantise, unpack

ODD = {
    "per token": KVFormat(CodeFormat(4), CodeFormat(4)),
    "symmetric": KVFormat(CodeFormat(4, axis="channel", asym=False), CodeFormat(2, asym=False)),
    "groups": KVFormat(CodeFormat(8, group=32), CodeFormat(4, group=32)),
    "K alone": KVFormat(CodeFormat(2, axis="channel"), CodeFormat(16)),
    "V alone": KVFormat(CodeFormat(16), CodeFormat(8)),
}
FORMATS = KV_FORMATS | ODD


def tile(*shape: int, seed: int = 0) -> torch.Tensor:
    """Elements whose channels differ in mean and range, as K's do."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=draw)
    return (
        x * torch.rand(shape[-1], generator=draw) * 4 + torch.randn(shape[-1], generator=draw) * 9
    )


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("size", "head_dim"), [(64, 64), (16, 128)])
def test_a_record_gives_back_what_was_quantised(name: str, size: int, head_dim: int) -> None:
    form = FORMATS[name]
    k, v = tile(3, 2, size, head_dim), tile(3, 2, size, head_dim, seed=1)
    layout = RecordLayout(form, size, head_dim, 4)
    records = pack(k, v, layout)
    assert records.shape == (3, 2, layout.num_bytes) and records.dtype == torch.uint8
    for given, x, part in zip(unpack(records, layout, torch.float32), (k, v), "kv", strict=True):
        how = form.key if part == "k" else form.value
        wanted = dequantise(quantise(x, how), how) if how.is_packed else x
        assert torch.equal(given, wanted)


@pytest.mark.parametrize(
    ("nbits", "axis", "asym", "group"),
    [
        (nbits, axis, asym, group)
        for nbits, axis, asym, group in itertools.product(
            (8, 4, 2), ("channel", "token"), (True, False), (None, 32)
        )
        if axis == "token" or group is None
    ],
)
def test_codes_are_the_nearest(nbits, axis, asym, group) -> None:
    form = CodeFormat(nbits, axis=axis, asym=asym, group=group)
    x = tile(2, 64, 64)
    codes = quantise(x, form)
    error = (dequantise(codes, form) - x).abs()
    # Half a step; at the ends what rounding the scale and the least value to fp16 adds.
    slack = 1e-3 * x.abs().amax() + codes.scale * (1 << nbits) * 2**-11
    assert (error <= codes.scale / 2 + slack).all()
    assert int(codes.codes.max()) < 1 << nbits


def test_halves_of_a_step_go_to_even() -> None:
    form = CodeFormat(4, axis="channel")
    x = torch.zeros(16, 32)
    x[:, 0] = torch.arange(16.0)
    x[3, 0], x[4, 0] = 2.5, 3.5
    codes = quantise(x, form)
    assert float(codes.scale[0, 0]) == 1.0
    assert codes.codes[[3, 4], 0].tolist() == [2, 4]


@pytest.mark.parametrize("name", ["int8", "int4", "int2", "fp8", "symmetric"])
def test_a_constant_and_what_is_no_number_do_no_harm(name: str) -> None:
    layout = RecordLayout(FORMATS[name], 64, 64, 4)
    k, v = torch.full((64, 64), 3.5), torch.zeros(64, 64)
    v[0, 0], v[1, 1], v[2, 2] = torch.inf, -torch.inf, torch.nan
    got_k, got_v = unpack(pack(k, v, layout), layout, torch.float32)
    assert (got_k - k).abs().max() <= 3.5 * 2**-9
    assert got_v.isfinite().all()
    assert got_v.abs().max() <= FP16_MAX * 1.001
    assert (got_v[3:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_unpacked_elements_keep_every_bit(dtype: torch.dtype) -> None:
    layout = RecordLayout(KV_FORMATS["auto"], 64, 64, dtype.itemsize)
    k, v = tile(2, 64, 64).to(dtype), tile(2, 64, 64, seed=2).to(dtype)
    got_k, got_v = unpack(pack(k, v, layout), layout, dtype)
    assert torch.equal(got_k, k.float()) and torch.equal(got_v, v.float())


@pytest.mark.parametrize(
    ("name", "least_ratio"), [("int8", 1.9), ("fp8", 1.9), ("k8v4", 2.5), ("int4", 3.6)]
)
def test_a_record_is_as_small_as_it_says(name: str, least_ratio: float) -> None:
    bf16 = RecordLayout(KV_FORMATS["auto"], 64, 128, 2)
    assert bf16.num_bytes == 2 * 64 * 128 * 2
    assert bf16.num_bytes / RecordLayout(KV_FORMATS[name], 64, 128, 2).num_bytes >= least_ratio


def test_bytes_lie_as_the_layout_says() -> None:
    layout = RecordLayout(KV_FORMATS["int4"], 64, 64, 4)
    k, v = tile(64, 64), tile(64, 64, seed=3)
    record = pack(k, v, layout)
    codes = quantise(k, layout.format.key)
    byte = record[5 * 64 + 7]  # row 5 of K's codes, token 7: channels 5 and 37
    assert byte == codes.codes[7, 5] | codes.codes[7, 37] << 4
    assert codes.least is not None
    meta = record[layout.key_meta_at : layout.value_meta_at].view(torch.float16).float()
    assert torch.equal(meta[:64], codes.scale[0]) and torch.equal(meta[64:], codes.least[0])
    values = quantise(v, layout.format.value)
    byte = record[layout.value_at + 7 * 32 + 5]
    assert byte == values.codes[7, 5] | values.codes[7, 37] << 4
    meta = record[layout.value_meta_at :].view(torch.float16).float()
    assert torch.equal(meta[:64], values.scale[:, 0])


@pytest.mark.parametrize(
    ("form", "head_dim", "said"),
    [
        (CodeFormat(2), 32, "32 channels"),
        (CodeFormat(4), 80, "80 channels"),
        (CodeFormat(8, group=48), 64, "Groups of 48"),
        (CodeFormat(4, "float"), 64, "4-bit float"),
    ],
)
def test_what_cannot_be_packed_is_refused(form: CodeFormat, head_dim: int, said: str) -> None:
    with pytest.raises(EngineError, match=said):
        form.check(64, head_dim)
