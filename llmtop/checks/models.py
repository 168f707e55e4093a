"""Whether the default model is here, so that serving needs no network."""

from __future__ import annotations

from importlib.util import find_spec

from llmtop.checks.check import Check
from llmtop.paths import cache_dir


def default_model() -> Check:
    if find_spec("tokenizers") is None:
        return Check("model", "ok", "none looked for: the engine is not installed")
    from engine.models.registry import ModelRegistry

    default = ModelRegistry(cache_dir()).list()[0]
    if default.path is None:
        return Check("model", "ok", f"{default.name} is not here yet: serve fetches it once")
    return Check("model", "ok", f"{default.name} is here: serve needs no network")
