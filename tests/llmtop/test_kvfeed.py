"""KV events over ZeroMQ, from a publisher that does as vLLM's does, and from worse ones."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest
import zmq

from llmtop.cli import main
from llmtop.errors import LlmtopError
from llmtop.sources.kvendpoints import KvEndpoints, kv_endpoints
from llmtop.sources.kvfeed import KvFeed
from profiler.events import AnyEvent, BlockDelta, BlockMapBegin, Log
from profiler.foreign.kvmessage import MAX_MESSAGE_BYTES
from profiler.state import SessionState

_END = (-1).to_bytes(8, "big", signed=True)
WAIT_S = 20.0


class Publisher:
    """PUB and ROUTER with a buffer, as in vLLM's distributed/kv_events.py."""

    def __init__(self, context: zmq.Context[Any], port: int = 0) -> None:
        self.live = context.socket(zmq.XPUB)
        self.live.bind(f"tcp://127.0.0.1:{port or '*'}")
        self.replay = context.socket(zmq.ROUTER)
        self.replay.bind("tcp://127.0.0.1:*")
        self.buffer: list[tuple[bytes, bytes]] = []
        self.asked: list[int] = []
        self.silent = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def endpoints(self) -> KvEndpoints:
        live, replay = (s.getsockopt(zmq.LAST_ENDPOINT).decode() for s in (self.live, self.replay))
        return KvEndpoints(live.rstrip("\0"), replay.rstrip("\0"))

    def wait_for_a_listener(self) -> None:
        assert self.live.poll(WAIT_S * 1000)
        assert self.live.recv() == b"\x01"

    def publish(self, *events: Any, lost: bool = False) -> None:
        seq = len(self.buffer).to_bytes(8, "big")
        data = msgspec.msgpack.encode([time.time(), list(events), 0])
        self.buffer.append((seq, data))
        if not lost:
            self.live.send_multipart((b"kv-events", seq, data))

    def _serve(self) -> None:
        while not self._stopping.is_set():
            if not self.replay.poll(20):
                continue
            client, _, since = self.replay.recv_multipart()
            self.asked.append(int.from_bytes(since, "big"))
            if self.silent:
                continue
            for seq, data in self.buffer:
                if seq >= since:
                    self.replay.send_multipart((client, b"", b"kv-events", seq, data))
            self.replay.send_multipart((client, b"", b"", _END, b""))

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self.live.close(linger=0)
        self.replay.close(linger=0)


def stored(*hashes: int, parent: int | None = None) -> dict[str, Any]:
    tokens = [31_337] * 16 * len(hashes)
    return {
        "type": "BlockStored", "block_hashes": [h.to_bytes(32, "big") for h in hashes],
        "parent_block_hash": None if parent is None else parent.to_bytes(32, "big"),
        "token_ids": tokens, "block_size": 16, "lora_id": None, "medium": "GPU", "lora_name": None,
    }  # fmt: skip


class Ear:
    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self.state = SessionState()

    def hear(self, event: AnyEvent) -> None:
        self.events.append(event)
        self.state.apply(event)

    def until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_S
        while not done() and time.monotonic() < end:
            time.sleep(0.005)
        assert done(), self.events

    @property
    def reasons(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, BlockMapBegin)]


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context: zmq.Context[Any] = zmq.Context()
    yield context
    context.term()


@pytest.fixture
def publisher(context: zmq.Context[Any]) -> Iterator[Publisher]:
    publisher = Publisher(context)
    yield publisher
    publisher.close()


@pytest.fixture
def listen() -> Iterator[Callable[..., Ear]]:
    feeds: list[KvFeed] = []

    def start(*endpoints: KvEndpoints) -> Ear:
        ear = Ear()
        feeds.append(KvFeed(endpoints, ear.hear))
        feeds[-1].start()
        return ear

    yield start
    for feed in feeds:
        feed.stop()


def test_what_was_before_what_is_live_and_what_was_lost(publisher: Publisher, listen: Any) -> None:
    publisher.publish(stored(1, 2, 3))
    ear = listen(publisher.endpoints)
    publisher.wait_for_a_listener()
    ear.until(lambda: ear.state.blocks.num_blocks() == 3)
    assert ear.state.blocks.whole and list(ear.state.blocks.t_stored_ns) == [0, 0, 0]
    publisher.publish(stored(4, parent=2))
    ear.until(lambda: ear.state.blocks.num_blocks() == 4)
    assert ear.state.blocks.t_stored_ns[3] > 0
    publisher.publish(stored(5, parent=4), lost=True)
    publisher.publish(stored(6, parent=5))
    ear.until(lambda: ear.state.blocks.num_blocks() == 6)
    assert ear.reasons == ["connecting", "attached"] and ear.state.blocks.whole
    assert publisher.asked == [0, 1]
    told = [event for event in ear.events if isinstance(event, BlockDelta)]
    assert [event.late for event in told] == [True, False, True, False]
    assert "31337" not in repr(ear.events), "tokens stay where they came in"


def test_without_replay_nothing_from_before_is_claimed(publisher: Publisher, listen: Any) -> None:
    publisher.publish(stored(1))
    ear = listen(publisher.endpoints._replace(replay=""))
    publisher.wait_for_a_listener()
    ear.until(lambda: "attached" in ear.reasons)
    publisher.publish(stored(2, parent=1))
    ear.until(lambda: ear.state.blocks.num_blocks() == 1)
    assert not ear.state.blocks.whole
    publisher.publish(stored(3), lost=True)
    publisher.publish(stored(4))
    ear.until(lambda: "lost" in ear.reasons)
    ear.until(lambda: ear.state.blocks.num_blocks() == 1)
    assert publisher.asked == []


def test_a_replay_that_never_ends_is_told_and_waited_for_no_longer(
    publisher: Publisher, listen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmtop.sources.kvline.ANSWER_MS", 100)
    publisher.silent = True
    ear = listen(publisher.endpoints)
    ear.until(lambda: "attached" in ear.reasons)
    assert not ear.state.blocks.whole
    warnings = [event.text for event in ear.events if isinstance(event, Log)]
    assert any("no whole answer" in text for text in warnings)


def test_a_server_that_goes_and_comes_again(context: zmq.Context[Any], listen: Any) -> None:
    first = Publisher(context)
    endpoints = first.endpoints
    first.publish(stored(1, 2))
    ear = listen(endpoints._replace(replay=""))
    first.wait_for_a_listener()
    first.publish(stored(3))
    ear.until(lambda: ear.state.blocks.num_blocks() == 1)
    first.close()
    ear.until(lambda: "disconnected" in ear.reasons)
    assert ear.state.blocks.num_blocks() == 0, "nobody knows what it holds"
    second = Publisher(context, int(endpoints.live.rpartition(":")[2]))
    second.wait_for_a_listener()
    ear.until(lambda: ear.reasons[-1] == "attached")
    second.publish(stored(9))
    ear.until(lambda: ear.state.blocks.num_blocks() == 1)
    second.close()


def test_ranks_are_one_map_and_one_that_goes_takes_its_own_blocks(
    context: zmq.Context[Any], listen: Any
) -> None:
    first, second = Publisher(context), Publisher(context)
    first.publish(stored(1, 2, 3))
    second.publish(stored(1, 2))
    ear = listen(first.endpoints, second.endpoints)
    blocks = ear.state.blocks
    ear.until(lambda: [blocks.num_blocks(rank=rank) for rank in (0, 1)] == [3, 2])
    assert blocks.whole and blocks.num_distinct == 5, "the same tokens, but in two caches"
    second.close()
    ear.until(lambda: "disconnected" in ear.reasons)
    ear.until(lambda: [blocks.num_blocks(rank=rank) for rank in (0, 1)] == [3, 0])
    assert not blocks.whole
    first.close()


@pytest.mark.parametrize(
    "frames",
    [
        [b"kv-events"],
        [b"kv-events", b"\0" * 7, b"\x90"],
        [b"kv-events", b"\0" * 8] + [b"x"] * 50,
        [b"\xff" * 100] * 3,
    ],
)
def test_what_is_no_batch_is_passed_over(
    publisher: Publisher, listen: Any, frames: list[bytes]
) -> None:
    ear = listen(publisher.endpoints)
    publisher.wait_for_a_listener()
    publisher.live.send_multipart(frames)
    publisher.publish(stored(1))
    ear.until(lambda: ear.state.blocks.num_blocks() == 1)
    assert ear.reasons == ["connecting", "attached"]


def test_a_message_out_of_all_bounds_ends_the_connection_and_not_us(
    publisher: Publisher, listen: Any
) -> None:
    ear = listen(publisher.endpoints)
    publisher.wait_for_a_listener()
    publisher.live.send_multipart((b"", b"\0" * 8, bytes(MAX_MESSAGE_BYTES + 1)))
    ear.until(lambda: "disconnected" in ear.reasons)


def test_nothing_that_listens_there_is_no_connection(listen: Any) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        ear = listen(KvEndpoints(f"tcp://127.0.0.1:{holder.getsockname()[1]}", ""))
        ear.until(lambda: ear.reasons == ["connecting"])


def test_a_server_that_speaks_no_zeromq_is_no_connection(listen: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as web:
        ear = listen(KvEndpoints(f"tcp://127.0.0.1:{web.getsockname()[1]}", ""))
        peer, _ = web.accept()
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        again, _ = web.accept()
        again.close()
        assert ear.reasons[0] == "connecting" and "attached" not in ear.reasons


@pytest.mark.parametrize(
    ("text", "live", "replay"),
    [
        ("tcp://*:5557", "tcp://gpu-box:5557", ""),
        ("tcp://*:5557,tcp://*:5558", "tcp://gpu-box:5557", "tcp://gpu-box:5558"),
        ("10.0.0.7:5557, tcp://[::1]:5558", "tcp://10.0.0.7:5557", "tcp://[::1]:5558"),
        ("ipc:///run/kv", "ipc:///run/kv", ""),
    ],
)
def test_endpoints_are_read_as_vllm_writes_them(text: str, live: str, replay: str) -> None:
    assert kv_endpoints(text, "http://gpu-box:8000") == (live, replay)


@pytest.mark.parametrize(
    "text", ["", "tcp://x", "http://x:1", "tcp://x:99999", "tcp://x:1/y", "a:1,b:2,c:3", "\x1b:5"]
)
def test_other_endpoints_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(LlmtopError) as raised:
        kv_endpoints(text, "http://gpu-box:8000")
    assert raised.value.exit_code == 2 and "tcp://HOST:5557" in raised.value.hint
    assert raised.value.message.isprintable()


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/metrics" else 404)
        self.send_header("content-type", "text/plain")
        self.end_headers()
        self.wfile.write(b"vllm:num_requests_running 1\n" if self.path == "/metrics" else b"")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.parametrize("there", [True, False])
def test_attach_hears_them_beside_the_metrics(
    publisher: Publisher, there: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher.publish(stored(1, 2, 3))
    live = publisher.endpoints.live if there else "tcp://127.0.0.1:9"
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url, endpoints = (
        f"http://127.0.0.1:{server.server_port}",
        f"{live},{publisher.endpoints.replay}",
    )
    assert main(["attach", url, "--kv-events", endpoints, "--once", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["gauges"] == {"running": 1}
    blocks = found["cached_blocks"]
    expected = {"num_blocks": 3, "distinct_blocks": 3, "whole": True} if there else None
    assert blocks == (expected or {"num_blocks": 0, "distinct_blocks": 0, "whole": False})
    server.shutdown()
    server.server_close()
