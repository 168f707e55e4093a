"""Whether the default model is here, so that serving needs no network."""

from __future__ import annotations

from importlib.util import find_spec

from llmtop.checks.check import Check
from llmtop.paths import cache_dir


def default_model() -> Check:
    if find_spec("tokenizers") is None:
        return Check("model", "ok", "none looked for: the engine is not installed")
    from engine.models.registry import DEFAULT_MODEL, ModelRegistry

    known = {model.name: model for model in ModelRegistry(cache_dir()).list()}
    if known[DEFAULT_MODEL].is_cached:
        return Check("model", "ok", f"{DEFAULT_MODEL} is here: serve needs no network")
    megabytes = known[DEFAULT_MODEL].size_bytes / 1e6
    detail = f"{DEFAULT_MODEL} is not here yet: the first serve fetches {megabytes:.0f} MB"
    return Check("model", "ok", detail)
