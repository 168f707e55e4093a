"""What the device can do at most, measured now."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from llmtop.checks.check import Check
from llmtop.format import metric
from llmtop.paths import cache_dir


def measured_ceilings() -> Iterator[Check]:
    """Of the device that `serve` takes by itself; the figures are kept for its next start."""
    if find_spec("torch") is None:
        yield Check("ceilings", "ok", "not measured: the engine is not installed")
        return
    from engine.ceilings import measure_ceilings
    from engine.config import EngineConfig
    from engine.errors import EngineError
    from engine.models.progress import silent

    try:
        found = measure_ceilings(EngineConfig(model=""), cache_dir(), silent)
    except (EngineError, OSError, RuntimeError) as error:
        words = f"not measured: {error}".splitlines()[0]
        yield Check("ceilings", "warn", words, "is the device in use, and the cache writable?")
        return
    read, flops = metric(found.read_bytes_per_s, "B/s"), metric(found.matmul_flops_per_s, "FLOP/s")
    yield Check("device", "ok", found.device)
    yield Check("read", "ok", f"{read}: {found.how_read}")
    yield Check("matmul", "ok", f"{flops} in {found.dtype}: {found.how_matmul}")
