"""Following a server: keyframe, events, resume, loss, refusal. The server here is a script."""

import base64
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import msgspec
import pytest

from llmtop.sources.remote import RemoteSource, reason
from profiler.events import SCHEMA_VERSION, AnyEvent, ObserverCost, encode_event, kind_of
from profiler.state import SessionState, time_of

Events = Callable[..., list[AnyEvent]]


class Script:
    """What the server answers, and what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.hello = {"schema": SCHEMA_VERSION, "version": "1", "model": "m", "session": "s1"}
        self.connections: list[list[bytes]] = []
        self.asked_after: list[str | None] = []
        self.keys: list[str | None] = []
        self.hold = threading.Event()


def frame(seq: int, event: AnyEvent) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (
        seq,
        kind_of(event).encode(),
        encode_event(event),
    )


def keyframe(state: SessionState) -> bytes:
    return b"id: %d\nevent: keyframe\ndata: %s\n\n" % (
        state.seq,
        base64.b64encode(state.keyframe()),
    )


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def url(script: Script) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            script.keys.append(self.headers.get("Authorization"))
            self.send_response(script.status)
            self.end_headers()
            if script.status != 200:
                return
            if self.path.endswith("/hello"):
                self.wfile.write(msgspec.json.encode(script.hello))
                return
            script.asked_after.append(self.headers.get("Last-Event-ID"))
            for part in script.connections.pop(0) if script.connections else []:
                self.wfile.write(part)
            self.wfile.flush()
            if not script.connections:
                script.hold.wait(20)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    script.hold.set()
    server.shutdown()
    server.server_close()


def until(source: RemoteSource, wanted: Callable[[SessionState], bool]) -> SessionState:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        state = source.poll(time.monotonic_ns())
        if wanted(state):
            return state
        time.sleep(0.01)
    raise AssertionError(source.connection)


def folded(events: list[AnyEvent]) -> SessionState:
    state = SessionState()
    for seq, event in enumerate(events, 1):
        state.apply(event, seq)
    return state


def test_keyframe_and_events_give_the_state_of_all_events(
    script: Script, url: str, events: Events
) -> None:
    told = events(2.0)
    half = len(told) // 2
    script.connections = [
        [
            keyframe(folded(told[:half])),
            b": heartbeat\n\n",
            *(frame(half + i, e) for i, e in enumerate(told[half:], 1)),
        ]
    ]
    source = RemoteSource(url)
    source.start()
    try:
        state = until(source, lambda s: s.seq == len(told))
        expected = folded(told)
        assert state.requests.live.keys() == expected.requests.live.keys()
        assert state.requests.num_finished == expected.requests.num_finished
        assert state.pages.states == expected.pages.states
        assert source.connection.status == "connected"
        assert state.drops == 0
    finally:
        script.hold.set()
        source.stop()


def test_a_lost_connection_is_resumed_where_it_broke(
    script: Script, url: str, events: Events
) -> None:
    told = events(1.0)
    third = len(told) // 3
    script.connections = [
        [keyframe(folded([])), *(frame(i, e) for i, e in enumerate(told[:third], 1))],
        [frame(third + i, e) for i, e in enumerate(told[third:], 1)],
    ]
    source = RemoteSource(url)
    source.start()
    try:
        state = until(source, lambda s: s.seq == len(told))
        assert script.asked_after == [None, str(third)]
        assert state.requests.num_finished == folded(told).requests.num_finished
    finally:
        script.hold.set()
        source.stop()


def test_another_session_is_not_resumed(script: Script, url: str, events: Events) -> None:
    told = events(0.5)
    script.connections = [[frame(9000, told[1])], [keyframe(folded(told))]]
    source = RemoteSource(url)
    source.start()
    try:
        until(source, lambda s: s.seq == 9000)
        script.hello = script.hello | {"session": "s2"}
        until(source, lambda s: s.seq == len(told))
        assert script.asked_after == [None, None]
    finally:
        script.hold.set()
        source.stop()


def test_what_the_stream_lost_is_counted(script: Script, url: str, events: Events) -> None:
    told = events(0.5)
    script.connections = [[b'event: lag\ndata: {"lost": 41}\n\n', keyframe(folded(told))]]
    source = RemoteSource(url)
    source.start()
    try:
        assert until(source, lambda s: s.seq == len(told)).drops == 41
    finally:
        script.hold.set()
        source.stop()


@pytest.mark.parametrize(
    ("status", "word"), [(401, "API key"), (403, "API key"), (404, "not a server of llmtop")]
)
def test_a_refusal_is_final_and_says_why(script: Script, url: str, status: int, word: str) -> None:
    script.status = status
    source = RemoteSource(url)
    source.start()
    try:
        until(source, lambda s: source.connection.status == "failed")
        assert word in source.connection.detail
    finally:
        source.stop()


@pytest.mark.parametrize(("key", "word"), [(None, "wants an API key"), ("k", "wants another API")])
def test_a_server_that_wants_a_key_is_told_with_where_to_put_it(
    script: Script, url: str, key: str | None, word: str
) -> None:
    script.status = 401
    source = RemoteSource(url, key)
    source.start()
    try:
        until(source, lambda s: source.connection.status == "failed")
        assert word in source.connection.detail
        assert "LLMTOP_API_KEY" in source.connection.hint
    finally:
        source.stop()


def test_another_schema_is_refused_with_both_versions(script: Script, url: str) -> None:
    script.hello = script.hello | {"schema": SCHEMA_VERSION + 1}
    source = RemoteSource(url)
    source.start()
    try:
        until(source, lambda s: source.connection.status == "failed")
        assert f"version {SCHEMA_VERSION + 1}" in source.connection.detail
        assert f"version {SCHEMA_VERSION}" in source.connection.detail
    finally:
        source.stop()


@pytest.mark.parametrize(
    "junk", [b"id: 1\nevent: step\ndata: {}\n\n", b"id: 1\nevent: keyframe\ndata: %%\n\n"]
)
def test_junk_in_the_stream_is_a_lost_connection_and_no_crash(
    script: Script, url: str, junk: bytes, events: Events
) -> None:
    told = events(0.2)
    script.connections = [[junk], [keyframe(folded(told))]]
    source = RemoteSource(url)
    source.start()
    try:
        assert until(source, lambda s: s.seq == len(told)).session is not None
    finally:
        script.hold.set()
        source.stop()


def test_the_key_is_sent_and_a_server_that_is_not_there_is_waited_for(
    script: Script, url: str
) -> None:
    source = RemoteSource(url, "secret")
    source.start()
    try:
        until(source, lambda s: source.connection.status == "connected")
        assert set(script.keys) == {"Bearer secret"}
    finally:
        script.hold.set()
        source.stop()
    nobody = RemoteSource("http://127.0.0.1:9")
    nobody.start()
    try:
        until(nobody, lambda s: "no connection" in nobody.connection.detail)
        assert nobody.connection.status == "connecting"
    finally:
        nobody.stop()


def test_no_time_passes_while_what_happens_is_told_late(
    script: Script, url: str, events: Events
) -> None:
    told = events(1.0)
    end_ns = max(map(time_of, told))
    told.append(ObserverCost(end_ns, end_ns, "unobserved", ()))
    script.connections = [[keyframe(folded([])), *(frame(i, e) for i, e in enumerate(told, 1))]]
    source = RemoteSource(url)
    source.start()
    try:
        until(source, lambda s: s.seq == len(told))
        hour_ns = 3600 * 10**9
        assert source.poll(time.monotonic_ns() + hour_ns).t_ns == end_ns
        source.poll(0).observing.told(ObserverCost(end_ns, end_ns, "observed", ()))
        # Then it does, but only an event ends a second: others may yet come of it.
        next_second_ns = (end_ns // 10**9 + 1) * 10**9
        assert source.poll(time.monotonic_ns() + hour_ns).t_ns == next_second_ns - 1
    finally:
        script.hold.set()
        source.stop()


def test_reasons_are_few_words() -> None:
    refused = httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate")
    assert reason(refused) == "TLS failed"
    assert reason(httpx.ConnectError("refused")) == "no connection"
    assert reason(httpx.ReadTimeout("slow")) == "no answer in time"


def test_a_server_that_falls_silent_is_stale_and_no_time_passes(
    script: Script, url: str, events: Events
) -> None:
    told = events(1.0)
    script.connections = [[keyframe(folded([])), *(frame(i, e) for i, e in enumerate(told, 1))]]
    source = RemoteSource(url)
    source.start()
    try:
        until(source, lambda s: s.seq == len(told))
        heard_ns = time.monotonic_ns()
        source.poll(heard_ns + 4 * 10**9)
        assert source.connection.status == "connected"
        seconds = len(source.poll(heard_ns + 60 * 10**9).seconds.rows)
        assert source.connection.status == "stale"
        assert source.connection.detail.startswith("nothing heard since ")
        assert len(source.poll(heard_ns + 90 * 10**9).seconds.rows) == seconds
        source.poll(time.monotonic_ns())
        assert source.connection.status == "connected"
    finally:
        script.hold.set()
        source.stop()
