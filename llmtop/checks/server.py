"""What a server elsewhere is, what it tells of itself, and what would make it tell more."""

from __future__ import annotations

from typing import Any, Final

import httpx
import msgspec

from llmtop.errors import LlmtopError
from llmtop.peer import HELLO_PATH, root_of
from llmtop.sanitize import clean_line
from llmtop.sources.probing import PAGES, SWITCHES, engine_on, unknown
from llmtop.sources.scrape import PATIENT, Fetched, client_of, fetch, reason
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
# Where a server says who it is: the engine, a path, and the field with its version.
_IDENTITIES: Final = (
    ("Ollama", "/api/version", "version"),
    ("llama.cpp", "/props", "build_info"),
    ("SGLang", "/server_info", "version"),
    ("TGI", "/info", "version"),
    ("", "/version", "version"),
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
    """Raises: LlmtopError where nothing answers, or what answers is no server to be read."""
    root = root_of(url)
    with client_of(api_key, LIMITS) as client:
        hello = _first(client, root + HELLO_PATH)
        ours = _object(hello)
        if hello.status == 200 and "schema" in ours:
            return _of_ours(root, ours)
        refusals = []
        for path in PAGES:
            page = _asked(client, root + path)
            if page is None:
                continue
            engine = engine_on(page)
            if engine is not None:
                return _of_page(client, root, path, page.text, engine)
            refusals.append((path, page))
        return _without_page(client, root, refusals)


def _first(client: httpx.Client, url: str) -> Fetched:
    """Raises: LlmtopError if nobody answers at all."""
    try:
        return fetch(client, url, LIMITS)
    except httpx.HTTPError as error:
        raise LlmtopError(f"{root_of_page(url)}: {reason(error)}", _hint(error)) from None
    except StreamError as error:
        raise LlmtopError(error.message) from None


def root_of_page(url: str) -> str:
    return url.removesuffix(HELLO_PATH)


def _hint(error: httpx.HTTPError) -> str:
    text = str(error)
    if isinstance(error, httpx.TimeoutException):
        return "something is there, and its answer does not come"
    if "CERTIFICATE_VERIFY" in text:
        return "its certificate is not trusted here; SSL_CERT_FILE names one that is"
    if "SSL" in text:
        return "it does not speak TLS there; try http://"
    if isinstance(error, httpx.ConnectError) and "refused" not in text.lower():
        return "the name is not known, or the way there is closed"
    if isinstance(error, httpx.ConnectError):
        return "nothing listens there"
    return "it does not speak HTTP there; try https://"


def _asked(client: httpx.Client, url: str) -> Fetched | None:
    try:
        return fetch(client, url, LIMITS)
    except (httpx.HTTPError, StreamError):
        return None


def _object(page: Fetched | None) -> dict[str, Any]:
    try:
        return msgspec.json.decode(page.text if page else "", type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}


def _word(value: Any) -> str:
    return clean_line(value)[:_MAX_WORD] if isinstance(value, str) else ""


def _of_ours(root: str, hello: dict[str, Any]) -> Examination:
    everything = [View("everything", True, f"llmtop attach {root}")]
    version, model = _word(hello.get("version")), _word(hello.get("model"))
    return Examination(root, "llmtop", version, model, "", 0, [], everything, [], "")


def _of_page(client: httpx.Client, root: str, path: str, text: str, engine: Engine) -> Examination:
    page = page_of(text, engine)
    num_samples = sum(len(samples) for samples in page.samples.values())
    model = _first_model(client, root)
    version, signals = _identity(client, root, model)[1], diagnose(text, engine)
    names = [_word(name) for name in unread(text, engine)]
    views = _views(engine, root)
    name = _word(model.get("id"))
    return Examination(
        root, engine.name, version, name, path, num_samples, signals, views, names, ""
    )


def _views(engine: Engine, root: str) -> list[View]:
    blocks = _BLOCKS if engine is VLLM else f"{engine.name} does not tell of its blocks"
    return [
        View("each request", False, _PROXY.format(url=root)),
        View("KV blocks", False, blocks),
        View("GPUs", False, _GPUS),
        View("engine steps", False, "told by llmtop serve alone"),
    ]


def _identity(client: httpx.Client, root: str, model: dict[str, Any]) -> tuple[str, str]:
    """Engine and version, as far as the server says; `model` is its first of /v1/models."""
    for engine, path, field in _IDENTITIES:
        page = _asked(client, root + path)
        if page is not None and page.status == 200 and (told := _object(page)):
            return engine or _owner(model), _word(told.get(field))
    return _owner(model), ""


def _first_model(client: httpx.Client, root: str) -> dict[str, Any]:
    data = _object(_asked(client, f"{root}/v1/models")).get("data")
    first = data[0] if isinstance(data, list) and data else {}
    return first if isinstance(first, dict) else {}


def _owner(model: dict[str, Any]) -> str:
    owners = {"vllm": "vLLM", "sglang": "SGLang", "llamacpp": "llama.cpp"}
    return owners.get(_word(model.get("owned_by")), "")


def _without_page(
    client: httpx.Client, root: str, refusals: list[tuple[str, Fetched]]
) -> Examination:
    """Raises: LlmtopError unless the server says who it is, or is an exporter of GPUs."""
    pages = [(path, page) for path, page in refusals if page.status == 200]
    if any(name.startswith("DCGM_FI_") for _, page in pages for name in names_of(page.text)):
        advice = f"attach the engine beside it with --gpu-metrics {root}"
        return Examination(root, "DCGM exporter", "", "", pages[0][0], 0, [], [], [], advice)
    if any(page.content_type == "application/json" for _, page in pages):
        advice = "its JSON forgets what was read; attach --drain-metrics reads it all the same"
        return Examination(root, "TensorRT-LLM", "", "", "", 0, [], [], [], advice)
    model = _first_model(client, root)
    engine, version = _identity(client, root, model)
    if not engine:
        raise _refusal(root, refusals)
    switch = {"Ollama": "it has none; " + _PROXY, **SWITCHES}.get(engine, _PROXY).format(url=root)
    advice = f"no metrics page: {switch}"
    views = [View("each request", False, _PROXY.format(url=root))]
    if engine == "Ollama":
        views.insert(0, View("loaded models", True, "attach shows what /api/ps tells"))
    return Examination(root, engine, version, _word(model.get("id")), "", 0, [], views, [], advice)


def _refusal(root: str, refusals: list[tuple[str, Fetched]]) -> LlmtopError:
    for path, page in refusals:
        where = f"{root}{path}"
        if page.status in (401, 403):
            return LlmtopError(
                f"{where} wants a key (status {page.status})",
                "put it into LLMTOP_API_KEY, or name its variable with --api-key-env",
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
