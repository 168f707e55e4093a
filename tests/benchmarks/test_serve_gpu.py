"""The command end to end, with the smallest model on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "serve_gpu.py"
TINY = ("--model", "random:tiny", "--device", "cpu", "--max-model-len", "256")


def run(tmp_path: Path, *flags: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    path = tmp_path / "out.json"
    command = [sys.executable, str(SCRIPT), *TINY, "--json", str(path), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    return done, json.loads(path.read_text()) if path.exists() else {}


def test_two_engines_take_turns_and_one_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    flags = ("--rows", "decode,ttft", "--batches", "1,2", "--prompt", "16", "--output", "4")
    none = ("--vllm-path", str(tmp_path / "no-vllm"))
    done, found = run(tmp_path, *flags, *none, "--rounds", "2")
    assert done.returncode == 0, done.stderr
    assert list(found["engines"]) == ["llmtop", "transformers"]
    assert ["vllm is left out" in failure for failure in found["failures"]] == [True]
    first_row = [s["engine"] for s in found["samples"] if s["row"] == "1 x 16 -> 4"]
    assert first_row == ["llmtop", "transformers", "transformers", "llmtop"]
    rows = {(line["row"], line["engine"]): line for line in found["summary"]}
    assert set(rows) == {
        (row, engine)
        for row in ("1 x 16 -> 4", "2 x 16 -> 4", "128")
        for engine in ("llmtop", "transformers")
    }
    for line in rows.values():
        assert line["rounds"] == 2 and len(line["tokens"]) == 1
    for engine in ("llmtop", "transformers"):
        line = rows["2 x 16 -> 4", engine]
        assert line["tok_s"] == pytest.approx(2 * 4 / line["seconds"])
        assert line["advantage"] == pytest.approx(
            line["seconds"] / rows["2 x 16 -> 4", "llmtop"]["seconds"]
        )
        assert f"| 2 x 16 -> 4 | {engine} |" in done.stdout
    assert "NOT THE SAME" not in done.stdout


def test_what_was_measured_before_the_time_was_up_is_kept(tmp_path: Path) -> None:
    flags = ("--engines", "llmtop", "--rows", "decode", "--batches", "1", "--time-limit", "0")
    done, found = run(tmp_path, *flags)
    assert done.returncode == 0, done.stderr
    assert found["samples"] == [] and "time is up" in found["failures"][0]
