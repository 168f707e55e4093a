"""What answers at an address: a server of ours, or one whose metrics page is known."""

from __future__ import annotations

from typing import Final, NamedTuple

from llmtop.errors import LlmtopError
from llmtop.peer import HELLO_PATH
from llmtop.sources.asker import FORGETFUL, OPENAI, Asker, hello_in, is_json
from llmtop.sources.page_client import Fetched, PageClient
from profiler.errors import StreamError
from profiler.foreign.names import LLMTOP, OLLAMA, TRTLLM_JSON, Engine
from profiler.foreign.reading import engine_of

LOADED: Final = "/api/ps"
_MEASURE: Final = "llmtop proxy --upstream {url} measures each request of any such server"
# What shows the metrics of a server that has none now.
SWITCHES: Final = {
    "llama.cpp": "start llama-server with --metrics",
    "SGLang": "start it with --enable-metrics",
    "vLLM": "start it without --disable-log-stats",
}
FORGETS: Final = f"its {FORGETFUL} forgets what was read"
DRAIN: Final = (
    "return_perf_metrics: true in its configuration gives it a page that does not; attach "
    "--drain-metrics reads this one all the same, and its other readers miss that"
)


class Target(NamedTuple):
    """A metrics page: where it is, whose, and what the server calls its model and version."""

    root: str
    path: str
    engine: Engine
    model: str
    version: str

    @property
    def url(self) -> str:
        return self.root + self.path


class UnshownError(LlmtopError):
    """A server of a kind that is known, or that asks for a key, with nothing that can be shown."""

    def __init__(self, root: str, engine: str, what: str, hint: str) -> None:
        super().__init__(f"{root}: {what}", hint)
        self.engine = engine
        self.what = what


def probe(base_url: str, api_key: str | None, drain: bool = False) -> Target | None:
    """None where a server of ours is, or nothing answers yet: only waiting helps there. With
    `drain` TensorRT-LLM's JSON is a page like others, though it forgets what was read.

    Raises: LlmtopError for a server that answers, but with nothing that can be shown.
    """
    with PageClient(api_key) as client:
        asker = Asker(client, base_url)
        try:
            hello = asker.get(HELLO_PATH)
            if hello.status == 503 or hello_in(hello) is not None:
                return None
            return _page_of(asker, drain)
        except UnshownError as error:
            # A server of ours without its key hides all of it; others may show their metrics.
            if hello.status in (401, 403):
                return None
            raise error
        except StreamError:
            return None


def find(asker: Asker) -> Target:
    """The metrics page of what answers there, a server of ours too.

    Raises: LlmtopError for a server that answers, but with nothing that can be shown;
    StreamError.
    """
    hello = hello_in(asker.get(HELLO_PATH))
    if hello is None:
        return _page_of(asker)
    page = asker.get(FORGETFUL)
    if page.status != 200:
        raise _refused(asker.root, page.status)
    return Target(asker.root, FORGETFUL, LLMTOP, asker.model, str(hello.get("version", "")))


def _page_of(asker: Asker, drain: bool = False) -> Target:
    forgets = asker.forgets
    for path, page in asker.pages(drain):
        if page.status in (401, 403):
            raise _refused(asker.root, page.status)
        forgets = forgets or is_json(page)
        engine = TRTLLM_JSON if drain and is_json(page) else engine_on(page)
        if engine is not None:
            return Target(asker.root, path, engine, asker.model, asker.version(engine.name))
    if is_json(asker.get(LOADED)):
        return Target(asker.root, LOADED, OLLAMA, "", asker.version(OLLAMA.name))
    if forgets:
        raise UnshownError(asker.root, "TensorRT-LLM", FORGETS, DRAIN)
    raise _nothing(asker)


def _refused(root: str, status: int) -> LlmtopError:
    what = f"shows its metrics to those who have its key (status {status})"
    return UnshownError(root, "unknown", what, "llmtop attach --help says how a key is given")


def _nothing(asker: Asker) -> LlmtopError:
    engine, _ = asker.identity()
    if not engine:
        return unknown(asker.root)
    who = "this server" if engine == OPENAI else engine
    hint = SWITCHES.get(engine, _MEASURE).format(url=asker.root)
    return UnshownError(asker.root, engine, f"{who} shows no metrics", hint)


def engine_on(page: Fetched) -> Engine | None:
    """Whose page of metrics it is; None if it is none."""
    if page.status != 200 or page.content_type in ("application/json", "text/html"):
        return None
    return engine_of(page.text)


def unknown(root: str) -> LlmtopError:
    """What to say of a server that nothing is known of."""
    return LlmtopError(
        f"{root} answers, but it is no server of llmtop and shows no metrics that are known",
        "llmtop attach --help names the servers that it knows",
    )
