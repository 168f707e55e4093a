"""Pages that are JSON: what Ollama has loaded, and TensorRT-LLM's statistics of its iterations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from profiler.errors import StreamError
from profiler.foreign.names import OLLAMA, TRTLLM_JSON, Engine

_MAX_MODELS: Final = 1000


class Told(NamedTuple):
    model: str
    gauges: dict[str, float]


class _Model(msgspec.Struct):
    name: str = ""
    size: int = 0
    size_vram: int = 0


class _Loaded(msgspec.Struct):
    models: list[_Model]


class _Blocks(msgspec.Struct, rename="camel"):
    max_num_blocks: int = 0
    used_num_blocks: int = 0
    cache_hit_rate: float | None = None


class _Iteration(msgspec.Struct, rename="camel"):
    iter: int
    num_active_requests: int | None = None
    num_queued_requests: int | None = None
    kv_cache_stats: _Blocks | None = None


def told_by(text: str, engine: Engine) -> Told:
    """Raises: StreamError for what is no such document."""
    try:
        return _READERS[engine](text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StreamError(f"this is no page of {engine.name} ({type(error).__name__})") from None


def is_document(engine: Engine) -> bool:
    return engine in _READERS


def _ollama(text: str) -> Told:
    """Source: Ollama, docs/api.md, GET /api/ps."""
    models = msgspec.json.decode(text, type=_Loaded).models[:_MAX_MODELS]
    gauges = {
        "models_loaded": float(len(models)),
        "model_bytes": float(sum(model.size for model in models)),
        "vram_bytes": float(sum(model.size_vram for model in models)),
    }
    return Told(", ".join(model.name for model in models[:3]), gauges)


def _trtllm(text: str) -> Told:
    """Of the newest iteration; of none where the engine did nothing since the last reading."""
    iterations = msgspec.json.decode(text, type=list[_Iteration])
    if not iterations:
        return Told("", {})
    last = max(iterations, key=lambda iteration: iteration.iter)
    blocks = last.kv_cache_stats or _Blocks()
    found = {"running": last.num_active_requests, "waiting": last.num_queued_requests}
    gauges = {key: float(value) for key, value in found.items() if value is not None}
    if blocks.max_num_blocks > 0:
        gauges["kv_usage"] = blocks.used_num_blocks / blocks.max_num_blocks
        gauges["kv_blocks"] = float(blocks.max_num_blocks)
    if blocks.cache_hit_rate is not None:
        gauges["prefix_hit_rate"] = blocks.cache_hit_rate
    return Told("", gauges)


_READERS: Final[dict[Engine, Callable[[str], Told]]] = {OLLAMA: _ollama, TRTLLM_JSON: _trtllm}
