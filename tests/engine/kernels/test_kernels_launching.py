"""Kernels are compiled ahead of their launches, and until then nothing runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from inspect import signature
from pathlib import Path
from threading import Event, Timer
from typing import Any

import pytest
import torch
from triton.runtime import _async_compile
from triton.tools.tensor_descriptor import TensorDescriptor

from engine.kernels import launching
from engine.kernels.assembler import Assembler, newest_usable
from engine.kernels.launching import compiling_ahead, launch
from engine.kernels.silu_mul import silu_mul
from engine.models.progress import silent


class Told:
    """A kernel that only tells what became of it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, Any, Any]] = []

    def __getitem__(self, grid: Any) -> Any:
        return lambda *args, **kwargs: self.calls.append(("run", grid, args, kwargs))

    def warmup(self, *args: Any, grid: Any, **kwargs: Any) -> None:
        self.calls.append(("compiled", grid, args, kwargs))


def test_a_launch_is_the_same_call_whether_it_runs_or_compiles() -> None:
    kernel = Told()
    with compiling_ahead(torch.device("cpu"), silent):
        launch(kernel, (3, 1), 4, 5, SIZE=6)
    launch(kernel, (3, 1), 4, 5, SIZE=6)
    given = ((3, 1), (4, 5), {"SIZE": 6})
    assert kernel.calls == [("compiled", *given), ("run", *given)]


def test_a_kernel_is_compiled_once_for_all_that_it_cannot_tell_apart() -> None:
    rows = torch.zeros(64)
    kernel = Told()
    with compiling_ahead(torch.device("cpu"), silent):
        launch(kernel, (3,), rows, 8)
        launch(kernel, (5,), torch.ones(64), 8)
        launch(kernel, (5,), rows[1:], 8)  # not aligned
        launch(kernel, (5,), rows.double(), 8)
        launch(kernel, (5,), rows, 16)
        launch(kernel, (5,), rows, 8, SIZE=2)
        launch(kernel, (5,), rows, 1)
        launch(kernel, (5,), rows, True)  # which equals 1
    assert len(kernel.calls) == 7


def test_descriptors_differ_by_their_tiles_and_their_kind() -> None:
    rows, kernel = torch.zeros(4, 64), Told()

    def described(tensor: torch.Tensor, *tile: int) -> TensorDescriptor:
        return TensorDescriptor(tensor, list(tensor.shape), list(tensor.stride()), list(tile))

    with compiling_ahead(torch.device("cpu"), silent):
        launch(kernel, (3,), described(rows, 4, 16))
        launch(kernel, (3,), described(torch.ones(9, 32), 4, 16))
        launch(kernel, (3,), described(rows, 4, 32))
        launch(kernel, (3,), described(rows.half(), 4, 16))
    assert len(kernel.calls) == 3


def test_the_newest_assembler_of_the_same_major_release_is_taken() -> None:
    own, newer, beyond = (Assembler(v, v) for v in ("12.8", "12.10", "13.0"))
    assert newest_usable(own, [newer, beyond]) == newer
    assert newest_usable(own, [beyond]) == own
    assert newest_usable(newer, [own]) == newer


def test_a_pass_that_breaks_ends_the_compiling() -> None:
    kernel = Told()
    with (
        pytest.raises(ValueError, match="broken"),
        compiling_ahead(torch.device("cpu"), silent),
    ):
        raise ValueError("broken")
    launch(kernel, (1,))
    assert [what for what, *_ in kernel.calls] == ["run"]


class Slow(Told):
    """Handed to the compilers as Triton does it."""

    def __init__(self, started: Event, go_on: Event) -> None:
        super().__init__()
        self._started, self._go_on = started, go_on

    def warmup(self, *args: Any, grid: Any, **kwargs: Any) -> None:
        mode = _async_compile.active_mode.get()
        assert mode is not None
        afterwards = len(signature(mode.submit).parameters) - 2  # one more from Triton 3.7 on
        mode.submit(args, lambda: self._compiled(args), *[lambda kernel: None] * afterwards)

    def _compiled(self, args: Any) -> Told:
        self._started.set()
        self._go_on.wait(10)
        self.calls.append(("compiled", None, args, {}))
        raise ValueError("does not compile")


def test_an_interrupt_leaves_out_what_nobody_has_begun_to_compile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launching, "MOST_COMPILERS", 1)
    started, go_on = Event(), Event()
    kernel = Slow(started, go_on)
    with pytest.raises(KeyboardInterrupt), compiling_ahead(torch.device("cpu"), silent):
        for number in range(5):
            launch(kernel, (1,), number)
        started.wait(10)
        Timer(0.01, go_on.set).start()
        raise KeyboardInterrupt
    assert [args for _, _, args, _ in kernel.calls] == [(0,)]


def test_a_kernel_that_does_not_compile_is_left_to_its_launch() -> None:
    go_on = Event()
    go_on.set()
    told: list[tuple[int, int]] = []
    kernel = Slow(Event(), go_on)
    with compiling_ahead(
        torch.device("cpu"), lambda _, done, total, __: told.append((done, total))
    ):
        launch(kernel, (1,), 0)
        launch(kernel, (1,), 1)
    assert told == [(1, 2), (2, 2)]
    launch(kernel, (1,), 0)
    assert kernel.calls[-1][0] == "run"


def test_nothing_is_written_while_kernels_are_compiled(device: torch.device) -> None:
    both = torch.randn(3, 256, dtype=torch.float16, device=device)
    with compiling_ahead(device, silent):
        ahead = silu_mul(both)
    again = silu_mul(both)
    assert ahead.shape == again.shape
    gate, up = both.float().chunk(2, 1)
    torch.testing.assert_close(
        again.float(), torch.nn.functional.silu(gate) * up, atol=2e-3, rtol=0
    )


START = """
import json, sys
from triton import knobs
from engine.llm import LLM

phases, compiled = [""], []
knobs.compilation.listener = lambda *, src, cache_hit, **_: (
    cache_hit or compiled.append((phases[-1], str(src.name)))
)
model = LLM(
    "random:smollm2-135m",
    progress=lambda phase, *_: phases.append(phase),
    device="cuda",
    dtype="bfloat16",
    kv_cache_dtype=sys.argv[1],
    num_gpu_blocks_override=500,
    gpu_memory_utilization=0.05,
    max_num_seqs=20,
    max_model_len=1_000,
)
phases.append("serving")
model.generate([[7, 8, 9] * 30, [5]])
print(json.dumps(compiled))
"""


@pytest.mark.gpu
@pytest.mark.parametrize("cache_dtype", ["auto", "int4"])
def test_no_pass_finds_a_kernel_that_is_not_there(tmp_path: Path, cache_dtype: str) -> None:
    """Where nothing has been compiled before, all is before the first pass that runs."""
    done = subprocess.run(
        [sys.executable, "-c", START, cache_dtype],
        env=os.environ | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    compiled = json.loads(done.stdout.splitlines()[-1])
    assert len(compiled) > 10
    late = [name for phase, name in compiled if phase in ("warmup", "graphs", "serving")]
    assert late == []
