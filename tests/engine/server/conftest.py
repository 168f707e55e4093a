"""A core that runs nowhere: it answers what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from engine.models.bytes import ByteVocabulary
from engine.models.template import ChatTemplate
from engine.models.tokenizer import Tokenizer
from engine.request import EngineRequest, TokenLogprobs, TokenOutput
from engine.server.app import create_app
from engine.server.async_engine import AsyncEngine, ServedModel
from engine.server.event_feed import EventFeed
from engine.server.stream import Observed
from engine.server.wire import Refused
from profiler.bus import Bus
from profiler.events import SessionStart

EOS = 0
MAX_MODEL_LEN = 64


class FakeCore:
    """Answers every request with the bytes of `reply`, one token an output, then the end.

    With `automatic` off it only notes what it is asked, and a test calls `answer`.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.reply = b"hello"
        self.automatic = True
        self._tasks: list[asyncio.Task[None]] = []
        self.queue_full = False
        self.added: list[EngineRequest] = []
        self.aborted: list[tuple[int, str]] = []
        self.finished: list[tuple[int, str]] = []
        self.captured: list[int] = []
        self.num_measured = 0

    def add(self, request: EngineRequest) -> None:
        self.added.append(request)
        loop = asyncio.get_running_loop()
        if self.queue_full:
            loop.call_soon(self.engine.refuse, Refused(request.request, True, "the queue is full"))
        elif self.automatic:
            self._tasks.append(loop.create_task(self.answer(request)))

    def capture(self, num_steps: int) -> None:
        self.captured.append(num_steps)

    def measure_observer(self) -> None:
        self.num_measured += 1

    def abort(self, request: int, reason: str) -> None:
        self.aborted.append((request, reason))

    def finish(self, request: int, reason: str) -> None:
        self.finished.append((request, reason))

    async def answer(self, request: EngineRequest) -> None:
        tokens = list(self.reply)[: request.params.max_tokens]
        outputs = [self.output(request, i, token) for i, token in enumerate(tokens)]
        if not outputs:
            outputs = [self.output(request, 0, None)]
        last = outputs[-1]
        outputs[-1] = TokenOutput(
            last.request,
            last.token_ids,
            last.logprobs,
            last.prompt_logprobs,
            "length",
            None,
            last.num_cached_tokens,
        )
        for output in outputs:
            self.engine.take([output])
            for _ in range(10):  # whoever reads has its turn
                await asyncio.sleep(0)

    def output(self, request: EngineRequest, index: int, token: int | None) -> TokenOutput:
        params = request.params
        known = None
        if params.prompt_logprobs is not None and index == 0:
            prompt = request.prompt_token_ids
            known = [None, *(entry(t, params.prompt_logprobs) for t in prompt[1:])]
        if token is None:
            return TokenOutput(request.request, [], prompt_logprobs=known)
        logprobs = [entry(token, params.logprobs)] if params.logprobs is not None else None
        return TokenOutput(request.request, [token], logprobs, known, num_cached_tokens=3)


def entry(token: int, num_top: int) -> TokenLogprobs:
    """A log-probability that can be told from the token: -token / 100."""
    top = tuple((token + i, -(token + i) / 100) for i in range(num_top))
    return TokenLogprobs(token, -token / 100, 1, top)


def session_start() -> SessionStart:
    return SessionStart(
        t_ns=1,
        wall_ns=1,
        tool_version="0",
        model="tiny",
        device="cpu",
        num_layers=1,
        num_pages=8,
        block_size=16,
        page_bytes=1,
        weights_bytes=1,
        max_model_len=MAX_MODEL_LEN,
        max_num_seqs=4,
        max_num_batched_tokens=64,
    )


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(ByteVocabulary((EOS,)), ChatTemplate(""), (EOS,), 300)


@pytest.fixture
async def engine() -> AsyncEngine:
    return AsyncEngine()


@pytest.fixture
def core(engine: AsyncEngine, tokenizer: Tokenizer) -> FakeCore:
    core = FakeCore(engine)
    engine.serve(core, ServedModel(("tiny", "alias"), tokenizer, session_start()))
    return core


MakeClient = Callable[..., httpx.AsyncClient]


@pytest.fixture
async def make_client(engine: AsyncEngine) -> AsyncIterator[MakeClient]:
    clients: list[httpx.AsyncClient] = []

    def make(**options: object) -> httpx.AsyncClient:
        feed = EventFeed(Bus(), lambda: (0, b""))
        observed = Observed(lambda: b"a 1\n", feed, lambda: {"schema": 1})
        app = create_app(engine, observed, version="1.2.3", **options)  # type: ignore[arg-type]
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000"))
        return clients[-1]

    yield make
    for client in clients:
        await client.aclose()


@pytest.fixture
def client(make_client: MakeClient, core: FakeCore) -> httpx.AsyncClient:
    """A client of a server whose engine is ready."""
    return make_client()
