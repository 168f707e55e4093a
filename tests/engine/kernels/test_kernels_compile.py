"""Every launch the wrappers make is compiled for a Hopper GPU, on a machine without one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

from engine.kernels import paged_decode, paged_prefill
from engine.kernels.backend import TritonBackend

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)

SHARED_LIMIT = 227 * 1024  # bytes of shared memory a Hopper block may ask for


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


def expect_fits(kernels: list[Any], count: int) -> None:
    assert len(kernels) == count
    for kernel in kernels:
        assert len(kernel.asm["cubin"]) > 0
        assert kernel.metadata.shared <= SHARED_LIMIT


HEADS = [(9, 3, 64), (28, 4, 128), (32, 8, 128), (16, 16, 80), (16, 1, 96), (8, 8, 64)]
Case = tuple[int, int, int]


def queries_and_pool(
    case: Case, dtype: torch.dtype, block_size: int
) -> tuple[torch.Tensor, Any, tuple[torch.Tensor, ...]]:
    num_heads, num_kv_heads, head_dim = case
    backend = TritonBackend(torch.device("cpu"), dtype)
    pool = backend.allocate_pool(4, num_kv_heads, block_size, head_dim)
    q = torch.empty(5, num_heads, head_dim, dtype=dtype)
    tables = torch.zeros(2, 4, dtype=torch.int32)
    starts = torch.tensor([0, 1, 5], dtype=torch.int32)
    return q, pool, (tables, starts, torch.tensor([9, 9], dtype=torch.int32))


@pytest.mark.parametrize("case", HEADS)
@pytest.mark.parametrize("num_splits", [1, 8, 128])
def test_decode_compiles(case: Case, num_splits: int, compiled: list[Any]) -> None:
    q, pool, tables = queries_and_pool(case, torch.bfloat16, 16)
    out = torch.empty(5, case[0] * case[2], dtype=q.dtype)
    workspace = paged_decode.allocate_workspace(2, case[0], num_splits, case[2], q.device)
    paged_decode.paged_decode(q, pool, *tables, out, scale=0.1, workspace=workspace)
    expect_fits(compiled, 1 if num_splits == 1 else 2)
    assert "cp.async.cg.shared.global" in compiled[0].asm["ptx"]


@pytest.mark.parametrize("case", HEADS)
@pytest.mark.parametrize("num_sms", [1, 10**6])
def test_prefill_compiles(case: Case, num_sms: int, compiled: list[Any]) -> None:
    q, pool, tables = queries_and_pool(case, torch.bfloat16, 16)
    out = torch.empty(5, case[0] * case[2], dtype=q.dtype)
    cut = paged_prefill.choose_tiles([1, 4], case[0] // case[1], case[1], num_sms, q.dtype)
    tile_map = torch.zeros(1, 2, dtype=torch.int32)
    paged_prefill.paged_prefill(q, pool, *tables, tile_map, out, tiles=cut, scale=0.1)
    expect_fits(compiled, 1)
    assert "wgmma" in compiled[0].asm["ptx"]
