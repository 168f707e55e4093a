"""Processor, memory and disk."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from llmtop import paths
from llmtop.checks.check import Check
from llmtop.format import size

GIB: Final = 1 << 30
MIB: Final = 1 << 20

# Measured with the default model in bfloat16: weights 0.3 GiB, torch and pages up to 1.5 GiB.
LITTLE_MEMORY: Final = 2 * GIB
TOO_LITTLE_MEMORY: Final = 1 * GIB

# The default model is fetched once (0.1 GB) and kept converted (0.3 GB); an hour's recording
# of a busy server takes about 0.1 GB.
LITTLE_DISK: Final = 2 * GIB
TOO_LITTLE_DISK: Final = 512 * MIB

FEATURES: Final = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
BF16_FEATURES: Final = ("avx512_bf16", "amx_bf16", "bf16")


def machine() -> Iterator[Check]:
    yield processor(Path("/proc/cpuinfo"))
    yield memory(Path("/proc/meminfo"))
    yield folder("cache", paths.cache_dir())
    yield folder("sessions", paths.sessions_dir())


def processor(cpuinfo: Path) -> Check:
    facts = _first_values(cpuinfo)
    flags = facts.get("flags", facts.get("Features", "")).split()
    has = [name for name in FEATURES if name in flags]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    model = facts.get("model name") or platform.machine()
    detail = f"{model}, {cores} cores usable, {' '.join(has) or 'no vector features known'}"
    if not any(name in flags for name in BF16_FEATURES):
        return Check("cpu", "ok", f"{detail}; no bfloat16 products: float32 may be quicker")
    return Check("cpu", "ok", detail)


def memory(meminfo: Path) -> Check:
    facts = _first_values(meminfo)
    if "MemAvailable" not in facts:
        return Check("memory", "warn", "this system does not say how much is free")
    available, total = _kib(facts["MemAvailable"]), _kib(facts.get("MemTotal", "0"))
    detail = f"{size(available)} free of {size(total)}"
    if available < TOO_LITTLE_MEMORY:
        return Check("memory", "fail", detail, "even the small model needs 1 GiB; close something")
    if available < LITTLE_MEMORY:
        return Check("memory", "warn", detail, "keep the KV cache small: --kv-cache-memory-bytes")
    return Check("memory", "ok", detail)


def folder(name: str, path: Path) -> Check:
    """Whether files can be written there, and how much fits."""
    existing = next(p for p in (path, *path.parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        hint = f"{paths.HOME_VARIABLE} moves llmtop's files elsewhere"
        return Check(name, "fail", f"{path} cannot be written", hint)
    free = shutil.disk_usage(existing).free
    detail = f"{path}, {size(free)} free"
    if free < TOO_LITTLE_DISK:
        return Check(name, "fail", detail, "make room, or set LLMTOP_HOME to another disk")
    if free < LITTLE_DISK:
        return Check(name, "warn", detail, "a model of any size will not fit")
    return Check(name, "ok", detail)


def _first_values(path: Path) -> dict[str, str]:
    """The `key: value` lines of a file of /proc; of keys that repeat, the first."""
    facts: dict[str, str] = {}
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return facts
    for line in lines:
        key, colon, value = line.partition(":")
        if colon:
            facts.setdefault(key.strip(), value.strip())
    return facts


def _kib(text: str) -> int:
    return int(text.split()[0]) * 1024
