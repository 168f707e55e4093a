"""The GPU, its driver and whether torch and Triton can use it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec

import pynvml

from llmtop.checks.check import Check
from llmtop.format import size


def devices() -> Iterator[Check]:
    gpus, check = nvml()
    yield check
    if find_spec("torch") is None:
        return
    yield torch_build(gpus > 0)
    yield triton(gpus > 0)


def nvml() -> tuple[int, Check]:
    """The number of NVIDIA devices, and what NVML says of them."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return 0, Check("gpu", "ok", f"no NVML device ({error}): the engine runs on the CPU")
    try:
        names = [_device(index) for index in range(pynvml.nvmlDeviceGetCount())]
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError as error:
        return 0, Check("gpu", "warn", f"NVML fails: {error}", "does nvidia-smi work?")
    finally:
        pynvml.nvmlShutdown()
    return len(names), Check("gpu", "ok", f"{'; '.join(names) or 'none'}; driver {driver}")


def _device(index: int) -> str:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return f"{index} {_text(pynvml.nvmlDeviceGetName(handle))} {size(memory.total)}"


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def torch_build(has_gpu: bool) -> Check:
    """Whether torch imports, and reaches the GPU if there is one."""
    try:
        import torch
    except (ImportError, OSError) as error:
        hint = "pip install --force-reinstall torch"
        return Check("torch", "fail", f"does not import: {error}", hint)
    detail = f"{torch.__version__}, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        return Check("torch", "ok", f"{detail}, CUDA {torch.version.cuda}")
    if not has_gpu:
        return Check("torch", "ok", f"{detail}, CPU only")
    if torch.version.cuda is None:
        return Check("torch", "warn", f"{detail}: a CPU build beside a GPU", "pip install torch")
    hint = f"the driver is older than CUDA {torch.version.cuda}; update it, or an older torch"
    return Check("torch", "warn", f"{detail}: CUDA is not available", hint)


def triton(has_gpu: bool) -> Check:
    try:
        version = metadata.version("triton")
    except metadata.PackageNotFoundError:
        if not has_gpu:
            return Check("triton", "ok", "none; only the GPU's kernels need it")
        return Check("triton", "fail", "none, and there is a GPU", "pip install triton")
    return assembler(version) if has_gpu else Check("triton", "ok", version)


def assembler(triton_version: str) -> Check:
    """Whether what turns kernels into machine code is known to get them right."""
    from engine.errors import EngineError
    from engine.kernels.assembler import FIRST_SOUND, OWN_CHOICE, best_assembler

    try:
        best = best_assembler()
    except EngineError as error:
        return Check("triton", "fail", f"{triton_version}: {error.message}", error.hint)
    detail = f"{triton_version}, assembler of CUDA {best.version}"
    if best.release >= FIRST_SOUND:
        return Check("triton", "ok", detail)
    hint = f"let {OWN_CHOICE} name ptxas of CUDA {'.'.join(map(str, FIRST_SOUND))} or later"
    return Check("triton", "warn", f"{detail}, which gets kernels of packed pages wrong", hint)
