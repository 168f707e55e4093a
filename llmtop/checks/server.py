"""What a server elsewhere is, what it tells of itself, and what would make it tell more."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from llmtop.errors import LlmtopError
from llmtop.peer import HELLO_PATH, KEY_HINT
from llmtop.sanitize import clean_line
from llmtop.sources.asker import Asker, hello_in, is_json
from llmtop.sources.fetch_error import FetchError
from llmtop.sources.page_client import PATIENT, Fetched, PageClient
from llmtop.sources.probing import DRAIN, FORGETS, SWITCHES, engine_on, unknown
from profiler.errors import StreamError
from profiler.foreign.diagnosis import Signal, diagnose, unread
from profiler.foreign.names import VLLM, Engine
from profiler.foreign.page import names_of
from profiler.foreign.reading import page_of

LIMITS = PATIENT
_MAX_WORD: Final = 200
_PROXY: Final = "llmtop proxy --upstream {url} measures each request"
_GPUS: Final = "attach --gpu-metrics URL reads a DCGM exporter beside it"
_BLOCKS: Final = (
    'start vLLM with --kv-events-config \'{"enable_kv_cache_events": true, "endpoint": '
    '"tcp://*:5557", "replay_endpoint": "tcp://*:5558"}\', then attach --kv-events '
    "'tcp://*:5557,tcp://*:5558'"
)


class View(msgspec.Struct, frozen=True):
    """A part of the screen, whether this server fills it, and what would."""

    what: str
    shown: bool
    how: str


class Examination(msgspec.Struct, frozen=True):
    """What is not known is "". `unread` are the server's own metrics that llmtop does not use."""

    url: str
    engine: str
    version: str
    model: str
    page: str
    num_samples: int
    signals: list[Signal]
    views: list[View]
    unread: list[str]
    advice: str


def examine(url: str, api_key: str | None) -> Examination:
    """What forgets when it is read is left alone.

    Raises: LlmtopError where nothing answers, or what answers is no server to be read.
    """
    with PageClient(api_key, LIMITS) as client:
        asker = Asker(client, url)
        try:
            hello = hello_in(asker.get(HELLO_PATH))
            return _examined(asker) if hello is None else _of_ours(asker.root, hello)
        except FetchError as error:
            raise LlmtopError(f"{asker.root}: {error.message}", error.hint) from None
        except StreamError as error:
            raise LlmtopError(error.message) from None


def _examined(asker: Asker) -> Examination:
    seen = []
    for path, page in asker.pages():
        engine = engine_on(page)
        if engine is not None:
            return _of_page(asker, path, page.text, engine)
        seen.append((path, page))
    return _without_page(asker, seen)


def _word(value: Any) -> str:
    return clean_line(value)[:_MAX_WORD] if isinstance(value, str) else ""


def _of_ours(root: str, hello: dict[str, Any]) -> Examination:
    everything = [View("everything", True, f"llmtop attach {root}")]
    version, model = _word(hello.get("version")), _word(hello.get("model"))
    return Examination(root, "llmtop", version, model, "", 0, [], everything, [], "")


def _of_page(asker: Asker, path: str, text: str, engine: Engine) -> Examination:
    page = page_of(text, engine)
    num_samples = sum(len(samples) for samples in page.samples.values())
    names = [_word(name) for name in unread(text, engine)]
    version, model = _word(asker.version(engine.name)), _word(asker.model)
    signals, views = diagnose(text, engine), _views(engine, asker.root)
    return Examination(
        asker.root, engine.name, version, model, path, num_samples, signals, views, names, ""
    )


def _views(engine: Engine, root: str) -> list[View]:
    blocks = _BLOCKS if engine is VLLM else f"{engine.name} does not tell of its blocks"
    return [
        View("each request", False, _PROXY.format(url=root)),
        View("KV blocks", False, blocks),
        View("GPUs", False, _GPUS),
        View("engine steps", False, "told by llmtop serve alone"),
    ]


def _without_page(asker: Asker, seen: list[tuple[str, Fetched]]) -> Examination:
    """Raises: LlmtopError unless the server says who it is, or is an exporter of GPUs."""
    root = asker.root
    for path, page in seen:
        if page.status == 200 and any(n.startswith("DCGM_FI_") for n in names_of(page.text)):
            advice = f"attach the engine beside it with --gpu-metrics {root}"
            return Examination(root, "DCGM exporter", "", "", path, 0, [], [], [], advice)
    engine, version = asker.identity()
    views = [View("each request", False, _PROXY.format(url=root))]
    if asker.forgets or any(is_json(page) for _, page in seen):
        engine, advice = "TensorRT-LLM", f"{FORGETS}: {DRAIN}"
    elif engine:
        switch = {"Ollama": f"it has none; {_PROXY}", **SWITCHES}.get(engine, _PROXY)
        advice = f"no metrics page: {switch.format(url=root)}"
    else:
        raise _refusal(root, seen)
    if engine == "Ollama":
        views.insert(0, View("loaded models", True, "attach shows what /api/ps tells"))
    return Examination(
        root, engine, _word(version), _word(asker.model), "", 0, [], views, [], advice
    )


def _refusal(root: str, seen: list[tuple[str, Fetched]]) -> LlmtopError:
    for path, page in seen:
        where = f"{root}{path}"
        if page.status in (401, 403):
            return LlmtopError(
                f"{where} wants a key (status {page.status})",
                KEY_HINT,
            )
        if 300 <= page.status < 400:
            return LlmtopError(
                f"{where} redirects elsewhere (status {page.status})",
                "give the address that it leads to: no redirect is followed",
            )
        if page.status >= 500:
            return LlmtopError(f"{where} answers with status {page.status}")
        if page.content_type == "text/html" and page.status == 200:
            return LlmtopError(
                f"{where} is a web page, no metrics", "give the address of the server itself"
            )
    return unknown(root)
