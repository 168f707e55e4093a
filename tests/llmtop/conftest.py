"""A made-up server's events, for tests of screens that need a state and no engine."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import pytest
from idle import look_often
from textual.app import App
from textual.pilot import Pilot

from llmtop.keys import KEYS
from llmtop.viewmodel import Connection
from profiler.events import (
    AnyEvent,
    GpuAbsent,
    Log,
    MemorySample,
    PageDelta,
    PageRun,
    Phase,
    ProcessSample,
    RequestFinished,
    RequestFirstToken,
    RequestPreempted,
    RequestQueued,
    RequestScheduled,
    SessionStart,
    Step,
    StepRow,
)
from profiler.session.ring import Ring
from profiler.state import SessionState

MS: Final = 1_000_000
S: Final = 1_000_000_000
BLOCK: Final = 16
CHUNK: Final = 512


class Life:
    """What the made-up server remembers of a request."""

    def __init__(self, number: int, prompt: int, output: int) -> None:
        self.number, self.prompt, self.output = number, prompt, output
        self.cached = 0
        self.computed = 0
        self.made = 0
        self.pages: list[int] = []


class ScriptedServer:
    """`concurrency` requests in a closed loop; the same seed gives the same events."""

    def __init__(self, concurrency: int = 8, num_pages: int = 2048, seed: int = 0) -> None:
        self._rng = random.Random(seed)
        self._concurrency = concurrency
        self._free = list(range(num_pages, 0, -1))
        self._num_pages = num_pages
        self._lives: list[Life] = []
        self._count = 0
        self._step = 0

    def start(self, t_ns: int) -> Iterator[AnyEvent]:
        """Start-up, until ready."""
        yield Phase(t_ns, "load", 0, 272, "tensors")
        yield SessionStart(
            t_ns, 1_770_000_000 * S, "0.1.0", "smollm2-135m-instruct", "cpu", 30, self._num_pages,
            BLOCK, 368_640, 269_000_000, 2048, 64, 2048,
        )  # fmt: skip
        yield Phase(t_ns + 300 * MS, "load", 272, 272, "tensors")
        yield Phase(t_ns + 400 * MS, "ready")
        yield GpuAbsent(t_ns + 400 * MS, "libnvidia-ml.so.1 is not there")
        yield Log(t_ns + 400 * MS, "info", "server", "ready on http://127.0.0.1:8000")

    def steps(self, t_ns: int, until_ns: int) -> Iterator[AnyEvent]:
        """Requests come, are stepped and end, from `t_ns` to `until_ns`."""
        next_sample_ns = t_ns
        while t_ns < until_ns:
            if t_ns >= next_sample_ns:
                yield from self._samples(t_ns)
                next_sample_ns = t_ns + S
            while len(self._lives) < self._concurrency:
                yield self._queued(t_ns)
            end_ns = t_ns + 12 * MS + self._rng.randrange(4 * MS)
            yield from self._one_step(t_ns, end_ns)
            t_ns = end_ns + MS // 2

    def _samples(self, t_ns: int) -> Iterator[AnyEvent]:
        for role, pid in (("server", 4711), ("core", 4712)):
            yield ProcessSample(t_ns, role, pid, 20.0 + self._rng.random(), 400 << 20)
        kv = self._num_pages * 368_640
        yield MemorySample(t_ns, "cpu", 269_000_000, kv, 41_000_000, 0, 16 << 30)

    def _queued(self, t_ns: int) -> AnyEvent:
        self._count += 1
        life = Life(self._count, self._rng.randrange(40, 900), self._rng.randrange(20, 300))
        self._lives.append(life)
        name = f"cmpl-{self._count:04d}"
        return RequestQueued(t_ns, life.number, name, life.prompt, life.output)

    def _one_step(self, t_ns: int, end_ns: int) -> Iterator[AnyEvent]:
        self._step += 1
        budget = CHUNK
        rows: list[StepRow] = []
        told: list[AnyEvent] = []
        runs: list[PageRun] = []
        for life in list(self._lives):
            if life.computed < life.prompt:
                if not budget:
                    continue
                if not life.computed:
                    life.cached = life.computed = 32 if life.number % 2 else 0
                    yield RequestScheduled(t_ns, life.number, life.cached)
                chunk = min(budget, life.prompt - life.computed)
                budget -= chunk
                life.computed += chunk
                first = int(life.computed == life.prompt)
                rows.append(StepRow(life.number, chunk, first))
                life.made += first
                if first:
                    told.append(RequestFirstToken(end_ns, life.number))
            else:
                rows.append(StepRow(life.number, 0, 1))
                life.made += 1
            runs += self._grow(life)
            if life.made >= life.output:
                told.append(RequestFinished(end_ns, life.number, "length", life.made))
                runs += self._release(life)
                self._lives.remove(life)
        if runs:
            yield PageDelta(t_ns, tuple(runs))
        waiting = sum(life.computed == 0 for life in self._lives)
        free = len(self._free)
        yield Step(
            t_ns, end_ns, self._step, 900_000, None, tuple(rows), waiting,
            len(self._lives) - waiting, self._num_pages - free, 0, free,
        )  # fmt: skip
        yield from told

    def _grow(self, life: Life) -> Iterator[PageRun]:
        wanted = -(-(life.computed + life.made) // BLOCK)
        while len(life.pages) < wanted and self._free:
            page = self._free.pop() - 1
            if life.pages:
                yield PageRun("seal", life.pages[-1], 1, life.number)
            life.pages.append(page)
            yield PageRun("alloc", page, 1, life.number)

    def _release(self, life: Life) -> Iterator[PageRun]:
        for page in life.pages:
            yield PageRun("release", page, 1, life.number)
            yield PageRun("evict", page, 1, life.number)
            self._free.append(page + 1)

    def preempt(self, t_ns: int) -> Iterator[AnyEvent]:
        """The newest running request loses its pages."""
        life = next(life for life in reversed(self._lives) if life.made)
        yield RequestPreempted(t_ns, life.number, "no free page", life.computed + life.made)
        yield PageDelta(t_ns, tuple(self._release(life)))
        life.pages = []
        life.computed = 0
        life.prompt += life.made


@cache
def script(seconds: float, concurrency: int, seed: int) -> tuple[AnyEvent, ...]:
    server = ScriptedServer(concurrency, seed=seed)
    t_ns = 100 * S
    ready_ns = t_ns + 500 * MS
    return (*server.start(t_ns), *server.steps(ready_ns, ready_ns + int(seconds * S)))


def scripted_events(seconds: float, concurrency: int = 8, seed: int = 0) -> list[AnyEvent]:
    return list(script(seconds, concurrency, seed))


def folded(events: list[AnyEvent]) -> SessionState:
    state = SessionState()
    for seq, event in enumerate(events, 1):
        state.apply(event, seq)
    return state


class StateSource:
    """A live source that shows one state, moved on by `feed`."""

    mode = "LIVE"
    address = "http://127.0.0.1:8000"
    bytes_recorded = 14_200_000
    replay = None
    session_file = None
    farewell = ""

    def __init__(self, state: SessionState) -> None:
        self.state = state
        self.ring = Ring()
        self.ring.begin(state)
        self.connection = Connection("connected")
        self.started = self.stopped = False

    def start(self) -> None:
        self.started = True

    def stop(self) -> None:
        self.stopped = True

    def poll(self, now_ns: int) -> SessionState:
        return self.state

    def feed(self, events: list[AnyEvent]) -> None:
        for event in events:
            self.state.apply(event, self.state.seq + 1)
            self.ring.append(event, self.state)

    def keep(self) -> str:
        return "kept"


@pytest.fixture(scope="session", autouse=True)
def quick_pilot() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        look_often(patch)
        yield


@pytest.fixture
def events() -> Callable[..., list[AnyEvent]]:
    return scripted_events


@pytest.fixture
def busy_state() -> SessionState:
    """Eight requests under way for six seconds."""
    return folded(scripted_events(6.0))


@pytest.fixture
def preempted_state() -> SessionState:
    """Three requests under way; the newest of them that decoded lost its pages just now."""
    server = ScriptedServer(concurrency=3)
    ready_ns = 101 * S
    until_ns = ready_ns + 2 * S
    events = [*server.start(100 * S), *server.steps(ready_ns, until_ns)]
    return folded([*events, *server.preempt(until_ns + 100 * MS)])


@pytest.fixture
def empty_state() -> SessionState:
    """Ready, and nobody has asked anything."""
    server = ScriptedServer()
    state = folded(list(server.start(100 * S)))
    return state


@pytest.fixture
def busy_source(busy_state: SessionState) -> StateSource:
    return StateSource(busy_state)


@pytest.fixture
def source_of() -> Callable[[SessionState], StateSource]:
    return StateSource


# They end the program, hold it, or write a file.
UNPRESSED: Final = {"app.suspend_process", "app.picture", "app.quit", "keep"}


@pytest.fixture
def pressable() -> list[str]:
    """The first key of each action that leaves the program running."""
    return [key.keys.split(",")[0] for key in KEYS if key.action not in UNPRESSED]


def screen_text(app: App[int]) -> str:
    """What stands on the screen, line by line."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


@pytest.fixture
def text_of() -> Callable[[App[int]], str]:
    return screen_text


async def wait_until(pilot: Pilot[Any], true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await pilot.pause(0.01)


@pytest.fixture
def until() -> Callable[[Pilot[Any], Callable[[], bool]], Awaitable[None]]:
    """Waits for what comes in its own time: on a busy machine later than elsewhere."""
    return wait_until


Answer = tuple[int, str, bytes]
Answers = dict[str, Answer | Callable[[], Answer]]


class Peer:
    """A real HTTP server that answers what it was told to, and remembers what it was asked."""

    def __init__(self, answers: Answers) -> None:
        self.asked: list[tuple[str, str | None]] = []
        peer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                peer.asked.append((self.path, self.headers["authorization"]))
                answer = answers.get(self.path, (404, "text/plain", b""))
                status, kind, body = answer() if callable(answer) else answer
                self.send_response(status)
                self.send_header("content-type", kind)
                if 300 <= status < 400:
                    self.send_header("location", body.decode())
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def leave(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


@pytest.fixture
def peer() -> Iterator[Callable[[Answers], Peer]]:
    started: list[Peer] = []

    def start(answers: Answers) -> Peer:
        started.append(Peer(answers))
        return started[-1]

    yield start
    for one in started:
        one.leave()
