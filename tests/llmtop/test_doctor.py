import json
from pathlib import Path

import pytest

from engine.kernels.assembler import Assembler
from llmtop.checks import devices, machine, software
from llmtop.checks.ceilings import measured_ceilings
from llmtop.checks.models import default_model
from llmtop.checks.screen import screen
from llmtop.cli import main

CPUINFO = "processor : 0\nmodel name : Test CPU\nflags : fpu avx2 avx512f {}\n"


def test_this_machine_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    code = main(["doctor", "--json"])
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert {"python", "llmtop", "engine", "cpu", "memory", "gpu", "torch", "model"} <= found.keys()
    assert found["llmtop"]["status"] == found["torch"]["status"] == "ok"
    assert code == (1 if any(c["status"] == "fail" for c in found.values()) else 0)
    assert all(c["hint"] for c in found.values() if c["status"] != "ok")


def test_a_failed_check_is_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("llmtop.checks.devices.torch_build", lambda _: software.python())
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "fail cache" in text and "LLMTOP_HOME" in text


def test_the_processors_features_are_read(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(CPUINFO.format("avx512_bf16"))
    assert "Test CPU" in machine.processor(file).detail
    assert "avx512_bf16" in machine.processor(file).detail
    file.write_text(CPUINFO.format(""))
    assert "no bfloat16" in machine.processor(file).detail


@pytest.mark.parametrize(("mib", "status"), [(512, "fail"), (1536, "warn"), (8192, "ok")])
def test_little_memory_is_told(tmp_path: Path, mib: int, status: str) -> None:
    file = tmp_path / "meminfo"
    file.write_text(f"MemTotal: 16777216 kB\nMemAvailable: {mib * 1024} kB\n")
    assert machine.memory(file).status == status


def test_unknown_memory_is_a_warning_and_no_number(tmp_path: Path) -> None:
    check = machine.memory(tmp_path / "absent")
    assert check.status == "warn" and not any(c.isdigit() for c in check.detail)


def test_a_folder_that_does_not_exist_yet_is_judged_by_its_parent(tmp_path: Path) -> None:
    assert machine.folder("cache", tmp_path / "a" / "b").status in ("ok", "warn")
    assert not (tmp_path / "a").exists()


def test_no_gpu_is_stated_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise devices.pynvml.NVMLError(devices.pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(devices.pynvml, "nvmlInit", absent)
    count, check = devices.nvml()
    assert count == 0 and check.status == "ok"
    assert "no NVML device" in check.detail


def test_a_gpu_that_torch_cannot_use_is_a_warning() -> None:
    import torch

    check = devices.torch_build(has_gpu=True)
    assert check.status == ("ok" if torch.cuda.is_available() else "warn")


@pytest.mark.parametrize(("version", "status"), [("12.8", "warn"), ("12.9", "ok"), ("13.0", "ok")])
def test_an_assembler_that_is_known_to_be_wrong_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, version: str, status: str
) -> None:
    best = Assembler("/there/ptxas", version)
    monkeypatch.setattr("engine.kernels.assembler.best_assembler", lambda: best)
    check = devices.triton(has_gpu=True)
    assert check.status == status and f"assembler of CUDA {version}" in check.detail
    assert ("TRITON_PTXAS_PATH" in check.hint) == (status == "warn")


def test_the_assembler_that_triton_brings_is_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_PTXAS_PATH", raising=False)
    assert devices.triton(has_gpu=True).status == "ok"


def test_an_assembler_that_does_not_run_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRITON_PTXAS_PATH", str(tmp_path / "none"))
    check = devices.triton(has_gpu=True)
    assert check.status == "fail" and "does not run" in check.detail


def test_another_package_named_engine_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = tmp_path / "engine" / "__init__.py"
    monkeypatch.setattr("engine.__file__", str(foreign))
    check = software.packages()
    assert check.status == "fail" and str(foreign) in check.detail


def test_the_model_is_looked_for_without_fetching_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    assert "not here yet" in default_model().detail


def test_no_terminal_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert screen({}).status == "ok"


def test_the_device_is_measured_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    main(["doctor", "--json"])
    assert "matmul" not in capsys.readouterr().out
    assert not (tmp_path / "cache" / "ceilings").exists()
    main(["doctor", "--measure", "--json"])
    found = {check["name"]: check["detail"] for check in json.loads(capsys.readouterr().out)}
    assert "B/s" in found["read"] and "FLOP/s" in found["matmul"]
    assert len(list((tmp_path / "cache" / "ceilings").iterdir())) == 1


def test_a_device_that_cannot_be_measured_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").touch()
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    (check,) = measured_ceilings()
    assert check.status == "warn" and "not measured" in check.detail and check.hint
