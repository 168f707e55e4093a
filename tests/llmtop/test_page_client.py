"""The client that reads servers' pages, against servers that speak HTTP in every way they may."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import zlib
from collections.abc import Iterator
from typing import Final

import pytest

from llmtop.sources.fetch_error import FetchError
from llmtop.sources.page_client import Limits, PageClient
from profiler.errors import StreamError

PAGE: Final = 'vllm:num_requests_running{model_name="ä"} 3\n' * 2000
PLAIN: Final = PAGE.encode()


class Wire:
    """Sends `answers` one by one, as they are, and ends the connection after one that says so.

    `requests` are the heads that came, `num_connections` how often it was reached."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.requests: list[bytes] = []
        self.num_connections = 0
        self.has_ended = threading.Semaphore(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/metrics"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with self._listener:
            while self._answers:
                connection, _ = self._listener.accept()
                self.num_connections += 1
                with connection, contextlib.suppress(ConnectionError):
                    self._serve(connection)
                self.has_ended.release()

    def _serve(self, connection: socket.socket) -> None:
        answer = b""
        while self._answers and b"connection: gone" not in answer:
            head = connection.recv(1 << 16)  # a head alone, and so in one piece
            if not head:
                return
            self.requests.append(head)
            answer = self._answers.pop(0)
            connection.sendall(answer)


@pytest.fixture
def client() -> Iterator[PageClient]:
    with PageClient() as client:
        yield client


def answer(body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    told = b"content-length: %d" % (len(body) if length is None else length)
    lines = (b"HTTP/1.1 200 OK", b"Content-Type: Text/Plain; version=0.0.4", told, *headers)
    return b"\r\n".join((*lines, b"", body))


def in_chunks(body: bytes) -> bytes:
    parts = [body[at : at + 5000] for at in range(0, len(body), 5000)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + framed


def test_every_way_to_send_a_page_comes_to_the_same(client: PageClient) -> None:
    wire = Wire(
        answer(PLAIN),
        answer(gzip.compress(PLAIN), b"content-encoding: gzip"),
        answer(zlib.compress(PLAIN), b"Content-Encoding: deflate"),
        in_chunks(PLAIN) + b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + PLAIN + b"connection: gone",
    )
    first = client.get(wire.url)
    assert first == (200, "text/plain", PAGE)
    assert [client.get(wire.url).text for _ in range(3)] == [PAGE] * 3
    assert wire.num_connections == 1, "it is kept"
    assert client.get(wire.url).text == PAGE + "connection: gone", "its end is the page's"
    assert all(b"accept-encoding: gzip" in head.lower() for head in wire.requests)


def test_bytes_that_are_no_text_are_no_end(client: PageClient) -> None:
    wire = Wire(answer(b"vllm:a 1\n\xff\xfe\nvllm:b 2\n"))
    assert client.get(wire.url).text == "vllm:a 1\n\ufffd\ufffd\nvllm:b 2\n"


def test_a_connection_that_the_server_has_ended_is_made_anew(client: PageClient) -> None:
    wire = Wire(answer(b"1", b"connection: gone"), answer(b"2"))
    assert client.get(wire.url).text == "1"
    assert wire.has_ended.acquire(timeout=10)
    assert client.get(wire.url).text == "2"
    assert wire.num_connections == 2


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (answer(b"short", b"connection: gone", length=50), "connection lost"),
        (in_chunks(b"x" * 9000) + b"connection: gone", "connection lost"),
        (b"connection: gone\r\n", "connection lost"),
        (answer(gzip.compress(PLAIN)[:99] + b"?" * 99, b"content-encoding: gzip"), "be unpacked"),
        (answer(gzip.compress(bytes(64 << 20)), b"content-encoding: gzip"), "unpacked|longer"),
        (answer(PLAIN, b"content-encoding: br"), "packed in a way that is not known"),
    ],
)
def test_a_page_that_is_damaged_is_none_and_the_next_one_is_read(
    sent: bytes, words: str, client: PageClient
) -> None:
    wire = Wire(sent, answer(PLAIN))
    with pytest.raises(StreamError, match=words):
        client.get(wire.url)
    assert client.get(wire.url).text == PAGE
    assert wire.num_connections == 2, "what is left of the damaged one is not the next one's"


def test_what_is_packed_counts_unpacked() -> None:
    wire = Wire(answer(gzip.compress(PLAIN), b"content-encoding: gzip"))
    with PageClient(limits=Limits(max_bytes=len(PLAIN) - 1)) as client:
        with pytest.raises(StreamError, match="longer than"):
            client.get(wire.url)


def test_one_client_asks_several_servers_and_each_over_its_own_connection() -> None:
    first, second = Wire(answer(b"1"), answer(b"3")), Wire(answer(b"2"))
    with PageClient("sesame") as client:
        assert [client.get(wire.url).text for wire in (first, second, first)] == ["1", "2", "3"]
    assert all(b"Bearer sesame" in head for head in first.requests)
    assert (first.num_connections, second.num_connections) == (2, 1)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 80, "x..y"])
def test_a_host_that_is_none_is_no_connection(host: str, client: PageClient) -> None:
    with pytest.raises(FetchError, match="no connection") as caught:
        client.get(f"http://{host}:8000/metrics")
    assert caught.value.hint == "the name is not known, or the way there is closed"


def test_nobody_there_is_told_from_somebody_silent(client: PageClient) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
    with PageClient(limits=Limits(step_s=0.1)) as hasty:
        with pytest.raises(FetchError, match="no answer in time"):
            hasty.get(url)
    silent.close()
    with pytest.raises(FetchError, match="no connection") as caught:
        client.get(url)
    assert caught.value.hint == "nothing listens there"
