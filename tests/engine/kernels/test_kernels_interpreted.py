"""Starts the tests of the kernels' numbers under Triton's interpreter, where there is no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch


def release(package: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version(package).split(".")[:2])


@pytest.mark.skipif(
    release("triton") < (3, 7) and release("numpy") >= (2, 4),
    reason="the interpreter of triton 3.6 cannot loop with numpy 2.4",
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="the same tests run compiled")
def test_kernels_agree_with_their_references_when_interpreted() -> None:
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", str(here)]
    run = subprocess.run(
        command,
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=here.parents[2],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout
