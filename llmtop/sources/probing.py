"""What answers at an address: a server of ours, or one whose metrics page is known."""

from __future__ import annotations

from typing import Final, NamedTuple

import httpx
import msgspec

from llmtop.errors import LlmtopError
from llmtop.peer import HELLO_PATH, root_of
from llmtop.sources.scrape import Fetched, client_of, fetch
from profiler.errors import StreamError
from profiler.foreign.names import Engine
from profiler.foreign.reading import engine_of

PAGES: Final = ("/metrics", "/prometheus/metrics", "/v1/metrics")
_MEASURE: Final = "llmtop proxy --upstream {url} measures each request of any such server"
# Servers that are known by another page, and how they would show their metrics.
_OTHERS: Final = (
    ("/api/version", "Ollama has no metrics page", _MEASURE),
    ("/props", "llama.cpp shows no metrics", "start llama-server with --metrics"),
    ("/server_info", "SGLang shows no metrics", "start it with --enable-metrics"),
    ("/v1/models", "this server shows no metrics page", _MEASURE),
)


class Target(NamedTuple):
    """A metrics page: where it is, whose, and what the server calls its model and version."""

    url: str
    engine: Engine
    model: str
    version: str


def probe(base_url: str, api_key: str | None) -> Target | None:
    """None where a server of ours is, or nothing answers yet: only waiting helps there.

    Raises: LlmtopError for a server that answers, but with nothing that can be shown.
    """
    root = root_of(base_url)
    with client_of(api_key) as client:
        try:
            if _is_ours(fetch(client, root + HELLO_PATH)):
                return None
            return _found(client, root)
        except (httpx.HTTPError, StreamError):
            return None


def _is_ours(hello: Fetched) -> bool:
    """A server of ours without our key answers 401 to this, and so may any other."""
    if hello.status in (401, 403, 503):
        return True
    try:
        return hello.status == 200 and "schema" in msgspec.json.decode(hello.text)
    except (msgspec.DecodeError, TypeError):
        return False


def _found(client: httpx.Client, root: str) -> Target:
    for path in PAGES:
        page = fetch(client, root + path)
        # TensorRT-LLM's JSON is emptied by whoever reads it: once is enough.
        if page.status != 200 or page.content_type in ("application/json", "text/html"):
            continue
        engine = engine_of(page.text)
        if engine is not None:
            return Target(root + path, engine, _model(client, root), _version(client, root))
    raise _nothing(client, root)


def _nothing(client: httpx.Client, root: str) -> LlmtopError:
    for path, what, hint in _OTHERS:
        if fetch(client, root + path).status == 200:
            return LlmtopError(f"{root}: {what}", hint.format(url=root))
    return LlmtopError(
        f"{root} answers, but it is no server of llmtop and shows no metrics that are known",
        "llmtop attach --help names the servers that it knows",
    )


class _Model(msgspec.Struct):
    id: str = ""


class _Models(msgspec.Struct):
    data: list[_Model] = []


class _Version(msgspec.Struct):
    version: str = ""


def _model(client: httpx.Client, root: str) -> str:
    """The first of /v1/models, "" where none is told."""
    try:
        models = msgspec.json.decode(fetch(client, f"{root}/v1/models").text, type=_Models)
    except (msgspec.DecodeError, httpx.HTTPError):
        return ""
    return models.data[0].id if models.data else ""


def _version(client: httpx.Client, root: str) -> str:
    try:
        return msgspec.json.decode(fetch(client, f"{root}/version").text, type=_Version).version
    except (msgspec.DecodeError, httpx.HTTPError):
        return ""
