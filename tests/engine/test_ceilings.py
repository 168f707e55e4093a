"""What the device can do: measured once, kept, and never believed when it is not ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from engine import measuring
from engine.ceilings import Ceilings, CeilingStore, find_ceilings, measure_ceilings
from engine.config import EngineConfig
from engine.measuring import Subject
from engine.server.core_process import _ceilings

CONFIG = EngineConfig(model="", device="cpu", dtype="float32", num_threads=1)
KNOWN = Ceilings("a card", "bfloat16", 4.6e12, 8e14, "by reading", "by multiplying")


@pytest.fixture(autouse=True)
def small_and_alone(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(measuring, "CPU_READ_BYTES", 1 << 20)
    monkeypatch.setattr(measuring, "CPU_MATMUL_SIZE", 64)
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


def test_what_was_written_is_read_by_nobody_else(tmp_path: Path) -> None:
    store = CeilingStore(tmp_path)
    store.write(KNOWN)
    path = store.path("a card", "bfloat16")
    assert store.read("a card", "bfloat16") == KNOWN
    assert path.stat().st_mode & 0o777 == 0o600
    assert store.read("a card", "float32") is store.read("another", "bfloat16") is None
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no JSON",
        b"{}",
        msgspec.json.encode(KNOWN)[:-1],
        msgspec.json.encode(msgspec.structs.replace(KNOWN, device="another")),
        msgspec.json.encode(msgspec.structs.replace(KNOWN, read_bytes_per_s=0.0)),
        msgspec.json.encode(msgspec.structs.replace(KNOWN, matmul_flops_per_s=-1.0)),
        b'{"device": "a card", "read_bytes_per_s": 1e999}',
    ],
)
def test_a_file_that_says_something_else_is_not_believed(tmp_path: Path, data: bytes) -> None:
    store = CeilingStore(tmp_path)
    store.write(KNOWN)
    store.path("a card", "bfloat16").write_bytes(data)
    assert store.read("a card", "bfloat16") is None


def test_a_file_that_others_may_have_written_is_not_believed(tmp_path: Path) -> None:
    store = CeilingStore(tmp_path)
    store.write(KNOWN)
    path = store.path("a card", "bfloat16")
    path.chmod(0o622)
    assert store.read("a card", "bfloat16") is None
    path.unlink()
    (tmp_path / "elsewhere").write_bytes(msgspec.json.encode(KNOWN))
    path.symlink_to(tmp_path / "elsewhere")
    assert store.read("a card", "bfloat16") is None
    path.unlink()
    os.mkfifo(path, 0o600)
    assert store.read("a card", "bfloat16") is None
    path.unlink()
    path.mkdir()
    assert store.read("a card", "bfloat16") is None


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A device that counts how often it was measured."""
    counted: list[int] = []

    def measure(self: Subject, progress: object) -> Ceilings:
        counted.append(1)
        return KNOWN

    subject = Subject(torch.device("cuda"), torch.bfloat16)
    monkeypatch.setattr(Subject, "of", lambda config: subject)
    monkeypatch.setattr(Subject, "device_name", "a card")
    monkeypatch.setattr(Subject, "measure", measure)
    return counted


def test_a_gpu_is_measured_once_and_again_when_asked(tmp_path: Path, gpu: list[int]) -> None:
    assert find_ceilings(CONFIG, tmp_path, lambda *words: None) == KNOWN
    assert find_ceilings(CONFIG, tmp_path, lambda *words: None) == KNOWN
    assert len(gpu) == 1
    assert measure_ceilings(CONFIG, tmp_path, lambda *words: None) == KNOWN
    assert len(gpu) == 2


def test_a_cpu_is_measured_only_when_asked(tmp_path: Path) -> None:
    assert find_ceilings(CONFIG, tmp_path, lambda *words: None) is None
    told: list[tuple[str, int, int, str]] = []
    first = measure_ceilings(CONFIG, tmp_path, lambda *words: told.append(words))
    assert [(name, done, total) for name, done, total, _ in told] == [
        ("measure", 0, 2), ("measure", 1, 2), ("measure", 2, 2)
    ]  # fmt: skip
    assert first.read_bytes_per_s > 0 < first.matmul_flops_per_s
    assert first.device.endswith("(1 threads)") and first.dtype == "float32"
    assert find_ceilings(CONFIG, tmp_path, lambda *words: None) == first


def test_a_cache_that_cannot_be_written_stops_no_start(tmp_path: Path, gpu: list[int]) -> None:
    (tmp_path / "ceilings").touch()
    assert find_ceilings(CONFIG, tmp_path, lambda *words: None) == KNOWN
    with pytest.raises(OSError):
        measure_ceilings(CONFIG, tmp_path, lambda *words: None)


def test_the_rates_are_work_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_cpu_seconds", lambda work: (0.5, 3))
    found = Subject.of(CONFIG).measure(lambda *words: None)
    assert found.read_bytes_per_s == 2 * (1 << 20)
    assert found.matmul_flops_per_s == 2 * 2 * 64**3
    assert found.how_read == "best of 3 sums over 1 MiB with 1 threads"


def test_a_session_says_what_its_device_can_do(core_bench: Callable[..., Any]) -> None:
    told = core_bench(ceilings=KNOWN).core.session_start()
    assert (told.read_bytes_per_s, told.matmul_flops_per_s) == (4.6e12, 8e14)
    told = core_bench().core.session_start()
    assert told.read_bytes_per_s is told.matmul_flops_per_s is None


def test_a_device_that_cannot_be_measured_serves_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: list[int]
) -> None:
    def fail(self: Subject, progress: object) -> Ceilings:
        raise RuntimeError("out of memory\nand much more")

    monkeypatch.setattr(Subject, "measure", fail)
    events: list[Any] = []
    assert _ceilings(CONFIG, tmp_path, lambda *words: None, events.append) is None
    (log,) = events
    assert (log.level, log.text) == (
        "warning", "the device's ceilings were not measured, out of memory"
    )  # fmt: skip
