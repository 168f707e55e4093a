"""Every launch the wrappers make is compiled for a Hopper GPU, on a machine without one.

What an interpreter forgives, this does not: types of loop variables, constants, shapes of products,
shared memory. Arguments go through Triton's own specialization, as they would on the way to a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from packed_case import FORMATS, make_packed
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from engine.attention import LayerPool
from engine.kernels.backend import TritonBackend
from engine.kernels.norm import add_rms_norm, rms_norm
from engine.kernels.packed_decode import packed_decode
from engine.kernels.packed_gather import gather
from engine.kernels.packed_prefill import cuts_of, packed_prefill
from engine.kernels.packed_seal import seal
from engine.kernels.paged_decode import paged_decode
from engine.kernels.paged_prefill import PrefillTiles, choose_tiles, paged_prefill
from engine.kernels.rope_write import rope_write
from engine.kernels.sampling import sample_rows
from engine.kernels.silu_mul import silu_mul
from engine.kernels.splits import allocate_workspace
from engine.kernels.stream_linear import stream_linear
from engine.kernels.stream_read import BLOCK, NUM_BLOCKS, stream_read
from engine.kernels.tiled_linear import tiled_linear

SHARED_LIMIT = 227 * 1024  # bytes of shared memory a Hopper block may ask for
BF16 = torch.bfloat16
SMOLLM2, QWEN = (9, 3, 64), (28, 4, 128)
ODD_HEADS = [(16, 16, 80), (16, 1, 96), (64, 2, 128), (6, 2, 16)]
OTHERS = [(SMOLLM2, BF16, 16), *((heads, BF16, 8) for heads in ODD_HEADS)]
OTHERS += [(QWEN, BF16, 64), (QWEN, torch.float16, 32), (QWEN, torch.float32, 16)]
OTHERS += [(heads, torch.float32, 16) for heads in ODD_HEADS]
EVERY = [(QWEN, BF16, 16)]
EVERY += [pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS]
# One format by default: each kernel takes seconds, and all of them the compiler minutes.
PACKED = ["int4", *(pytest.param(name, marks=pytest.mark.slow) for name in FORMATS)]
PACKED_SIZES = [
    ((32, 8, 128), BF16, 64),
    *(
        pytest.param(*sizes, marks=pytest.mark.slow)
        for sizes in [(SMOLLM2, BF16, 16), (QWEN, BF16, 128), (QWEN, torch.float32, 64)]
    ),
]


class HopperDriver:
    """Stands in for the CUDA driver: names a target and has no device."""

    def get_current_device(self) -> str:
        return "sm90"

    def get_current_stream(self, device: Any) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The kernels that the calls under test would have launched, compiled to machine code."""
    kernels: list[Any] = []
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        kernels.append(run(self, *args, grid=grid, warmup=True, **kwargs))
        return kernels[-1]

    monkeypatch.setattr(JITFunction, "run", compile_only)
    monkeypatch.setattr(driver, "_active", HopperDriver())
    yield kernels


def expect_good_code(kernels: list[Any], count: int, dtype: torch.dtype) -> None:
    """`count` kernels that fit a multiprocessor, and in 16 bits keep their variables in registers.

    In float32, which no one serves in on a GPU, a few may spill.
    """
    assert len(kernels) == count
    for kernel in kernels:
        assert kernel.metadata.shared <= SHARED_LIMIT
        assert len(kernel.asm["cubin"]) > 0
        assert dtype.itemsize > 2 or "STL" not in kernel.asm["sass"]


def paged_arguments(heads: Any, dtype: torch.dtype, block_size: int) -> tuple[Any, ...]:
    """q, pool, tables and output of two sequences, of one token and of four."""
    num_heads, num_kv_heads, head_dim = heads
    backend = TritonBackend(torch.device("cpu"), dtype)
    pool = backend.allocate_pool(4, num_kv_heads, block_size, head_dim)
    q = torch.empty(5, num_heads, head_dim, dtype=dtype)
    starts = torch.tensor([0, 1, 5], dtype=torch.int32)
    tables = torch.zeros(2, 4, dtype=torch.int32), starts, torch.tensor([9, 9], dtype=torch.int32)
    return q, pool, *tables, torch.empty(5, num_heads * head_dim, dtype=dtype)


@pytest.mark.parametrize(("heads", "dtype", "block_size"), EVERY)
def test_decode(heads: Any, dtype: torch.dtype, block_size: int, compiled: list[Any]) -> None:
    arguments = paged_arguments(heads, dtype, block_size)
    paged_decode(*arguments, scale=0.1)
    for num_splits in (7, 16):
        group = heads[0] // heads[1]
        workspace = allocate_workspace(2000, group, heads[2], torch.device("cpu"))
        splits = {"num_splits": num_splits, "workspace": workspace}
        paged_decode(*arguments, scale=0.1, window=5, **splits)
    whole, split, again = compiled
    # The number of splits changes every step; it must not call the compiler.
    assert again is split
    expect_good_code([whole, split], 2, dtype)
    if dtype is BF16:
        assert "cp.async.cg.shared.global" in split.asm["ptx"]
        assert "mma.sync" in split.asm["ptx"]


@pytest.mark.parametrize(("heads", "dtype", "block_size"), EVERY)
def test_prefill(heads: Any, dtype: torch.dtype, block_size: int, compiled: list[Any]) -> None:
    *arguments, out = paged_arguments(heads, dtype, block_size)
    tile_map = torch.zeros(1, 2, dtype=torch.int32)

    def prefill(tiles: PrefillTiles, **options: Any) -> None:
        paged_prefill(*arguments, tile_map, out, tiles=tiles, scale=0.1, **options)

    for num_sms in (1, 10**6):
        prefill(choose_tiles([1, 4], heads[0] // heads[1], heads[1], num_sms, dtype), window=77)
    expect_good_code(compiled, 2, dtype)
    if dtype is BF16:
        assert all("wgmma" in kernel.asm["ptx"] for kernel in compiled)


@pytest.mark.parametrize(("heads", "dtype", "block_size"), PACKED_SIZES)
@pytest.mark.parametrize("name", PACKED)
def test_packed_pages(
    name: str, heads: Any, dtype: torch.dtype, block_size: int, compiled: list[Any]
) -> None:
    sizes = {"heads": heads, "dtype": dtype, "block_size": block_size}
    case = make_packed([1, 4], [9, 9], FORMATS[name], **sizes)
    group, out = heads[0] // heads[1], case.poisoned_output()
    workspace = allocate_workspace(2000, group, heads[2], torch.device("cpu"))
    for num_splits in (7, 16):
        splits = {"num_splits": num_splits, "workspace": workspace}
        packed_decode(case.q, case.pool, *case.tables, out, scale=0.1, window=5, **splits)
    assert compiled[0] is compiled.pop()
    tile_map = torch.zeros(1, 2, dtype=torch.int32)
    tiles = cuts_of(dtype, block_size).short
    packed_prefill(case.q, case.pool, *case.tables, tile_map, out, tiles=tiles, scale=0.1)
    seal(case.pool, torch.zeros(1, 2, dtype=torch.int64))
    gather(case.pool, torch.zeros(1, dtype=torch.int32), dtype)
    assert len(compiled) == 4
    for kernel in compiled:
        assert kernel.metadata.shared <= SHARED_LIMIT
        assert len(kernel.asm["cubin"]) > 0
    if dtype is BF16 and FORMATS[name].is_packed:
        assert "cp.async.cg.shared.global" in compiled[0].asm["ptx"]


@pytest.mark.parametrize(("heads", "dtype", "block_size"), EVERY)
def test_rope_write(heads: Any, dtype: torch.dtype, block_size: int, compiled: list[Any]) -> None:
    num_heads, num_kv_heads, head_dim = heads
    _, pool, *_ = paged_arguments(heads, dtype, block_size)
    widths = [num_heads * head_dim, num_kv_heads * head_dim, num_kv_heads * head_dim]
    fused = torch.empty(5, sum(widths), dtype=dtype)
    q, k, v = (part.unflatten(1, (-1, head_dim)) for part in fused.split(widths, 1))
    angles = torch.empty(9, head_dim // 2)
    places = torch.zeros(5, dtype=torch.int64)
    rope_write(q, k, v, angles, angles, places, places, LayerPool(*pool))
    expect_good_code(compiled, 1, dtype)
    if head_dim >= 64:
        assert "ld.global.v4" in compiled[0].asm["ptx"]


@pytest.mark.parametrize("dtype", [BF16, pytest.param(torch.float32, marks=pytest.mark.slow)])
@pytest.mark.parametrize("width", [576, 3584, pytest.param(16384, marks=pytest.mark.slow)])
def test_norms(width: int, dtype: torch.dtype, compiled: list[Any]) -> None:
    x, weight = torch.empty(5, width, dtype=dtype), torch.empty(width, dtype=dtype)
    rms_norm(x, weight, 1e-5)
    add_rms_norm(x, x.clone(), weight, 1e-5)
    rms_norm(x.unflatten(1, (-1, 64)), weight[:64], 1e-5)
    expect_good_code(compiled, 3, dtype)
    assert "ld.global.v4" in compiled[0].asm["ptx"]


def test_the_first_pass_compiles_what_later_passes_need(batch_of: Any, compiled: list[Any]) -> None:
    """Whatever a step brings: one token or many, split or whole, short tiles or long."""
    backend = TritonBackend(torch.device("cpu"), BF16)
    pool = backend.allocate_pool(1, 4, 16, 128)

    def attend(query_lens: list[int], context_lens: list[int], window: int | None) -> None:
        plan = backend.plan(batch_of(query_lens, context_lens, 16, 0)[0], 28, 4, 128)
        q = torch.empty(sum(query_lens), 28, 128, dtype=BF16)
        backend.attend(q, pool, plan, 0.1, window)

    attend([1], [1], None)
    known = {id(kernel) for kernel in compiled}
    attend([1, 1, 3000], [5000, 1, 3001], 4096)
    attend([1] * 200 + [17], [99] * 201, None)
    attend([2], [2], 1)
    assert {id(kernel) for kernel in compiled} == known


@pytest.mark.parametrize("dtype", [BF16, pytest.param(torch.float32, marks=pytest.mark.slow)])
def test_silu_mul(dtype: torch.dtype, compiled: list[Any]) -> None:
    silu_mul(torch.empty(5, 2 * 1536, dtype=dtype))
    expect_good_code(compiled, 1, dtype)
    assert "ld.global.v4" in compiled[0].asm["ptx"]


@pytest.mark.parametrize("num_rows", [1, 16])
def test_stream_linear(num_rows: int, compiled: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    early = {"OVERLAPS": True, "launch_pdl": True}
    monkeypatch.setattr("engine.kernels.stream_linear.overlap", lambda device: early)
    for num_outputs in (3584, 4608, 37888):
        x, weight = torch.empty(num_rows, 3584), torch.empty(num_outputs, 3584)
        stream_linear(x.to(BF16), weight.to(BF16), gated=num_outputs > 5000)
    kernels = list({id(kernel): kernel for kernel in compiled}.values())
    expect_good_code(kernels, 2 if num_rows == 1 else 3, BF16)
    for kernel in kernels:
        assert kernel.asm["ptx"].count("griddepcontrol") == 2
        assert "cp.async.cg.shared.global" in kernel.asm["ptx"]


def test_tiled_linear(compiled: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    early = {"OVERLAPS": True, "launch_pdl": True}
    monkeypatch.setattr("engine.kernels.tiled_linear.overlap", lambda device: early)
    for num_rows, num_outputs in ((16, 37888), (64, 37888), (32, 3584), (64, 152064)):
        x, weight = torch.empty(num_rows, 3584), torch.empty(num_outputs, 3584)
        tiled_linear(x.to(BF16), weight.to(BF16), gated=num_outputs == 37888)
    expect_good_code(compiled, 4, BF16)
    for kernel in compiled:
        assert kernel.asm["ptx"].count("griddepcontrol") == 2
        assert "cp.async.bulk.tensor" in kernel.asm["ptx"] and "wgmma" in kernel.asm["ptx"]


def test_stream_read(compiled: list[Any]) -> None:
    stream_read(torch.empty(2 * NUM_BLOCKS * BLOCK, dtype=BF16))
    expect_good_code(compiled, 1, BF16)


@pytest.mark.parametrize("dtype", [BF16, pytest.param(torch.float32, marks=pytest.mark.slow)])
def test_sampling(dtype: torch.dtype, compiled: list[Any]) -> None:
    sample_rows(torch.empty(5, 152064, dtype=dtype), torch.zeros(5, 4, dtype=torch.int64))
    expect_good_code(compiled, 5, dtype)
    assert "ld.global.v4" in compiled[0].asm["ptx"]
    assert not any("fma.rn.f32" in kernel.asm["ptx"] for kernel in compiled[1:])
