"""Follows the event stream of a server of ours, and stays with it when it goes away."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import httpx
import msgspec

from llmtop.peer import HELLO_PATH, KEY_HINT, STREAM_PATH, key_headers, root_of
from llmtop.priority import give_way
from llmtop.sanitize import clean_line
from llmtop.sources.kept import KeptSource
from llmtop.sources.sse import Frame, FrameReader
from llmtop.trust import trusted
from llmtop.viewmodel import Connection, Status
from profiler.errors import ProfilerError, StreamError
from profiler.events import SCHEMA_VERSION, AnyEvent, decode_event
from profiler.state import SessionState

_FIRST_WAIT_S: Final = 0.25
_LONGEST_WAIT_S: Final = 8.0
# The server sends a comment at least every 10 s; a line that is silent for longer is dead.
_SILENCE_S: Final = 25.0
_MAX_HELLO_BYTES: Final = 1 << 20
_MAX_WAITING: Final = 200_000
# The server gathers events for 100 ms, and a busy machine takes its time: over time whose events
# are not here rates would be too low.
_SETTLE_NS: Final = 500_000_000
# The server tells of its processes every second, whatever else happens.
_STALE_NS: Final = 5_000_000_000


class _Lag(msgspec.Struct):
    lost: int


class Hello(msgspec.Struct):
    """What a server says of itself before the stream begins."""

    schema: int
    version: str = ""
    model: str = ""
    session: str = ""


class _Keyframe(NamedTuple):
    state: SessionState
    now_ns: int


class _Arrived(NamedTuple):
    seq: int
    event: AnyEvent
    now_ns: int


class RefusedError(StreamError):
    """The server answers, but will never answer with our stream: trying again is of no use."""


class RemoteSource(KeptSource):
    """A thread of its own reads the stream; `poll` folds what it has read.

    The server's clock is that of its host. Where it is another one, the newest event and the time
    since it came tell how late it is there. The newest minutes stay in `ring`.
    """

    def __init__(self, base_url: str, api_key: str | None = None) -> None:
        super().__init__()
        self._base_url = root_of(base_url)
        self._api_key = api_key
        self._state = SessionState()
        self._inbox: deque[_Keyframe | _Arrived] = deque()
        self._connection = Connection("connecting", "")
        self._seq: int | None = None
        self._session = ""
        self._lost = 0
        self._met = False
        self._clock_offset_ns: int | None = None
        self._t_heard_ns = 0
        self._silent_since = ""  # the time of day
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        return self._base_url

    @property
    def connection(self) -> Connection:
        """ "stale" where the last `poll` had heard nothing for 5 s, unless the server said that it
        would tell late."""
        if self._connection.status != "connected" or not self._silent_since:
            return self._connection
        return Connection("stale", f"nothing heard since {self._silent_since}")

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="llmtop-stream", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(task.cancel)
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._keeper.end()

    def poll(self, now_ns: int) -> SessionState:
        inbox = self._inbox
        for _ in range(len(inbox)):
            self._fold(inbox.popleft())
        self._mark_silence(now_ns - self._t_heard_ns)
        connected = self._connection.status == "connected"
        if connected and not self._state.observing.is_late and self._clock_offset_ns is not None:
            passed_ns = now_ns + self._clock_offset_ns - _SETTLE_NS
            self._state.advance_within_second(passed_ns)
        return self._state

    def _mark_silence(self, silent_ns: int) -> None:
        if silent_ns < _STALE_NS or self._state.observing.is_late:
            self._silent_since = ""
        elif not self._silent_since:
            since = datetime.now() - timedelta(microseconds=silent_ns // 1000)
            self._silent_since = f"{since:%H:%M:%S}"

    def _fold(self, item: _Keyframe | _Arrived) -> None:
        if isinstance(item, _Arrived):
            self._state.apply(item.event, item.seq)
            self.ring.append(item.event, self._state)
            offset_ns = item.event.t_ns - item.now_ns
            if self._clock_offset_ns is None or offset_ns > self._clock_offset_ns:
                self._clock_offset_ns = offset_ns
        elif isinstance(item, _Keyframe):
            self._keeper.end()  # its file cannot go on across a loss
            self._state = item.state
            self.ring.begin(item.state)
            self._clock_offset_ns = item.state.t_ns - item.now_ns

    def _run(self) -> None:
        give_way()
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._follow_for_good())
        if self._stopping.is_set():
            self._task.cancel()
        await asyncio.wait([self._task])

    async def _follow_for_good(self) -> None:
        headers = key_headers(self._api_key)
        timeout = httpx.Timeout(5.0, read=_SILENCE_S)
        wait_s = _FIRST_WAIT_S
        async with httpx.AsyncClient(
            headers=headers, timeout=timeout, trust_env=False, verify=trusted()
        ) as client:
            while True:
                started = time.monotonic()
                try:
                    await self._follow(client)
                    why = "the server ended the stream"
                except RefusedError as error:
                    self._connection = Connection("failed", error.message, error.hint)
                    return
                except (httpx.HTTPError, StreamError) as error:
                    why = reason(error)
                if time.monotonic() - started > _LONGEST_WAIT_S:
                    wait_s = _FIRST_WAIT_S
                await self._wait(why, wait_s)
                wait_s = min(_LONGEST_WAIT_S, 2 * wait_s)

    async def _wait(self, why: str, wait_s: float) -> None:
        status: Status = "reconnecting" if self._met else "connecting"
        self._connection = Connection(status, f"{why}; trying again")
        await asyncio.sleep(wait_s)

    async def _follow(self, client: httpx.AsyncClient) -> None:
        hello = await self._hello(client)
        if hello.session != self._session:
            self._session, self._seq = hello.session, None
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if self._seq is not None:
            headers["Last-Event-ID"] = str(self._seq)
        async with client.stream("GET", self._base_url + STREAM_PATH, headers=headers) as response:
            _check(response, self._base_url)
            self._t_heard_ns = time.monotonic_ns()
            self._connection, self._met = Connection("connected"), True
            async for frame in _frames(response):
                self._take(frame)
                while len(self._inbox) > _MAX_WAITING:
                    await asyncio.sleep(0.05)

    async def _hello(self, client: httpx.AsyncClient) -> Hello:
        response = await client.get(self._base_url + HELLO_PATH)
        _check(response, self._base_url)
        try:
            hello = msgspec.json.decode(response.content[:_MAX_HELLO_BYTES], type=Hello)
        except msgspec.DecodeError:
            raise RefusedError(f"{self._base_url} is not a server of llmtop") from None
        if hello.schema != SCHEMA_VERSION:
            raise RefusedError(
                f"the server (llmtop {clean_line(hello.version)}) speaks version {hello.schema} of"
                f" the event stream, this program version {SCHEMA_VERSION}"
            )
        return hello

    def _take(self, frame: Frame) -> None:
        seq = int(frame.id) if frame.id.isdecimal() else self._seq or 0
        now_ns = self._t_heard_ns = time.monotonic_ns()
        if frame.event == "lag":
            # The keyframe that follows makes up for it, but the loss itself is to be seen.
            self._lost += _lost_of(frame.data)
            return
        if frame.event == "keyframe":
            state = SessionState.restore(_decoded(frame.data))
            state.drops += self._lost
            self._inbox.append(_Keyframe(state, now_ns))
        else:
            self._inbox.append(_Arrived(seq, _event(frame.data), now_ns))
        self._seq = seq


async def _frames(response: httpx.Response) -> AsyncIterator[Frame]:
    reader = FrameReader()
    # As they came: what would be unpacked here was not asked for, and each layer costs every time.
    async for chunk in response.aiter_raw():
        for frame in reader.feed(chunk):
            yield frame


def _decoded(data: bytes) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise StreamError("the stream sent a keyframe that is not base64") from None


def _lost_of(data: bytes) -> int:
    try:
        return msgspec.json.decode(data, type=_Lag).lost
    except msgspec.DecodeError as error:
        raise StreamError(f"the stream sent a loss that cannot be read: {error}") from None


def _event(data: bytes) -> AnyEvent:
    try:
        return decode_event(data)
    except msgspec.DecodeError as error:
        raise StreamError(f"the stream sent what is no event: {error}") from None


def _check(response: httpx.Response, base_url: str) -> None:
    """Raises: RefusedError, StreamError for what a person, or only time, can mend."""
    status = response.status_code
    if status == 200:
        return
    if status in (401, 403):
        another = "another" if "authorization" in response.request.headers else "an"
        raise RefusedError(f"{base_url} wants {another} API key (status {status})", KEY_HINT)
    if status == 404:
        raise RefusedError(f"{base_url} is not a server of llmtop: it has no event stream")
    if status == 503:
        raise StreamError("the server is not ready")
    raise StreamError(f"the server answered with status {status}")


def reason(error: httpx.HTTPError | ProfilerError) -> str:
    """Why nothing comes, in a few words."""
    if isinstance(error, ProfilerError):
        return error.message
    if isinstance(error, httpx.ConnectError):
        about_tls = "certificate" in str(error).lower() or "SSL" in str(error)
        return "TLS failed" if about_tls else "no connection"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return f"connection lost ({type(error).__name__})"
