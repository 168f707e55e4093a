"""What answers at an address: a server of ours, or one whose metrics page is known."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeVar

import httpx
import msgspec

from llmtop.errors import LlmtopError
from llmtop.peer import HELLO_PATH, root_of
from llmtop.sources.scrape import PATIENT, Fetched, Limits, client_of, fetch
from profiler.errors import StreamError
from profiler.foreign.names import LLMTOP, OLLAMA, TRTLLM_JSON, Engine
from profiler.foreign.reading import engine_of

PAGES: Final = ("/metrics", "/prometheus/metrics", "/v1/metrics")
_JSON: Final = "application/json"
_MEASURE: Final = "llmtop proxy --upstream {url} measures each request of any such server"
# What shows the metrics of a server that has none now.
SWITCHES: Final = {
    "llama.cpp": "start llama-server with --metrics",
    "SGLang": "start it with --enable-metrics",
    "vLLM": "start it without --disable-log-stats",
}
# Servers that are known by another page, and how they would show their metrics.
_OTHERS: Final = (
    ("/props", "llama.cpp", "llama.cpp shows no metrics", SWITCHES["llama.cpp"]),
    ("/server_info", "SGLang", "SGLang shows no metrics", SWITCHES["SGLang"]),
    ("/v1/models", "OpenAI API", "this server shows no metrics page", _MEASURE),
)

S = TypeVar("S", bound=msgspec.Struct)


class Target(NamedTuple):
    """A metrics page: where it is, whose, and what the server calls its model and version."""

    url: str
    engine: Engine
    model: str
    version: str


def probe(base_url: str, api_key: str | None, drain: bool = False) -> Target | None:
    """None where a server of ours is, or nothing answers yet: only waiting helps there. With
    `drain` TensorRT-LLM's JSON is a page like others, though it forgets what was read.

    Raises: LlmtopError for a server that answers, but with nothing that can be shown.
    """
    root = root_of(base_url)
    with client_of(api_key) as client:
        try:
            hello = fetch(client, root + HELLO_PATH)
            if hello.status == 503 or _is_ours(hello):
                return None
            return _found(Asker(client), root, PAGES, drain)
        except UnshownError as error:
            # A server of ours without its key hides all of it; others may show their metrics.
            if hello.status in (401, 403):
                return None
            raise error
        except (httpx.HTTPError, StreamError):
            return None


class UnshownError(LlmtopError):
    """A server of a kind that is known, or that asks for a key, with nothing that can be shown."""

    def __init__(self, root: str, engine: str, what: str, hint: str) -> None:
        super().__init__(f"{root}: {what}", hint)
        self.engine = engine
        self.what = what


class Asker:
    """Asks one server for its pages, within `limits`."""

    def __init__(self, client: httpx.Client, limits: Limits = PATIENT) -> None:
        self._client = client
        self._limits = limits

    def fetch(self, url: str) -> Fetched:
        """Raises: httpx.HTTPError, StreamError."""
        return fetch(self._client, url, self._limits)

    def find(self, base_url: str) -> Target:
        """The metrics page of what answers there, a server of ours too.

        Raises: LlmtopError for a server that answers, but with nothing that can be shown;
        httpx.HTTPError, StreamError.
        """
        root = root_of(base_url)
        if _is_ours(self.fetch(root + HELLO_PATH)):
            return self._ours(root)
        owner = self._models(root).data
        # TensorRT-LLM forgets what was read at /metrics, and has another page.
        drains = any("tensorrt" in model.owned_by.lower() for model in owner)
        return _found(self, root, PAGES[1:] if drains else PAGES)

    def model(self, root: str) -> str:
        """The first of /v1/models, "" where none is told."""
        models = self._models(root).data
        return models[0].id if models else ""

    def version(self, root: str) -> str:
        return self._told(f"{root}/version", _Version).version

    def _ours(self, root: str) -> Target:
        page = self.fetch(root + PAGES[0])
        if page.status != 200:
            raise _refused(root, page.status)
        hello = self._told(root + HELLO_PATH, _Version)
        return Target(root + PAGES[0], LLMTOP, self.model(root), hello.version)

    def _models(self, root: str) -> _Models:
        return self._told(f"{root}/v1/models", _Models)

    def _told(self, url: str, kind: type[S]) -> S:
        """What it says there; of a page that is none, the defaults."""
        try:
            return msgspec.json.decode(self.fetch(url).text, type=kind)
        except (msgspec.DecodeError, httpx.HTTPError, StreamError):
            return kind()


def _is_ours(hello: Fetched) -> bool:
    try:
        return hello.status == 200 and "schema" in msgspec.json.decode(hello.text)
    except (msgspec.DecodeError, TypeError):
        return False


def _found(asker: Asker, root: str, paths: tuple[str, ...], drain: bool = False) -> Target:
    drained = False
    for path in paths:
        page = asker.fetch(root + path)
        if page.status in (401, 403):
            raise _refused(root, page.status)
        if drain and page.status == 200 and page.content_type == _JSON:
            return Target(root + path, TRTLLM_JSON, asker.model(root), asker.version(root))
        drained = drained or (page.status == 200 and page.content_type == _JSON)
        engine = engine_on(page)
        if engine is not None:
            return Target(root + path, engine, asker.model(root), asker.version(root))
    ollama = asker.fetch(f"{root}/api/ps")
    if ollama.status == 200 and ollama.content_type == _JSON:
        return Target(f"{root}/api/ps", OLLAMA, "", asker.version(f"{root}/api"))
    if drained:
        raise LlmtopError(
            f"{root}/metrics is TensorRT-LLM's JSON, which forgets what was read",
            "--drain-metrics reads it all the same; other readers of it miss that",
        )
    raise _nothing(asker, root)


def _refused(root: str, status: int) -> LlmtopError:
    what = f"shows its metrics to those who have its key (status {status})"
    return UnshownError(root, "unknown", what, "llmtop attach --help says how a key is given")


def _nothing(asker: Asker, root: str) -> LlmtopError:
    for path, engine, what, hint in _OTHERS:
        if asker.fetch(root + path).status == 200:
            return UnshownError(root, engine, what, hint.format(url=root))
    return unknown(root)


def engine_on(page: Fetched) -> Engine | None:
    """Whose page of metrics it is; None if it is none. TensorRT-LLM's JSON is emptied by whoever
    reads it: once is enough."""
    if page.status != 200 or page.content_type in (_JSON, "text/html"):
        return None
    return engine_of(page.text)


def unknown(root: str) -> LlmtopError:
    """What to say of a server that nothing is known of."""
    return LlmtopError(
        f"{root} answers, but it is no server of llmtop and shows no metrics that are known",
        "llmtop attach --help names the servers that it knows",
    )


class _Model(msgspec.Struct):
    id: str = ""
    owned_by: str = ""


class _Models(msgspec.Struct):
    data: list[_Model] = []


class _Version(msgspec.Struct):
    version: str = ""
