"""What passes a proxy: every byte, in both directions, and every end as it is."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from llmtop.proxy.wire import Wire
from profiler.events import (
    RequestAborted,
    RequestAnswered,
    RequestFinished,
    RequestFirstToken,
    RequestForwarded,
    RequestQueued,
    TokensReceived,
    encode_event,
)

CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
END = b"0\r\n\r\n"
ASK = {"model": "m", "prompt": "a secret", "max_tokens": 4, "stream": True}


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def token(text: str, reason: str | None = None) -> bytes:
    message = {"choices": [{"index": 0, "text": text, "finish_reason": reason}]}
    return b"data: " + json.dumps(message).encode() + b"\n\n"


async def three_tokens(peer) -> None:
    last = token("c", "stop") + b"data: [DONE]\n\n"
    await peer.send(CHUNKED, chunk(token("a")), chunk(token("b")), chunk(last), END)


async def test_a_stream_passes_and_is_told(proxied) -> None:
    async with proxied(three_tokens) as rig:
        response = await rig.client.post("/v1/completions", json=ASK)
        await rig.told(RequestFinished)
    assert response.content == token("a") + token("b") + token("c", "stop") + b"data: [DONE]\n\n"
    (queued,), (sent,) = rig.of(RequestQueued), rig.of(RequestForwarded)
    (first,), (answered,), (finished,) = (
        rig.of(RequestFirstToken), rig.of(RequestAnswered), rig.of(RequestFinished),
    )  # fmt: skip
    arrivals = [a for event in rig.of(TokensReceived) for a in event.arrivals]
    assert (queued.max_tokens, queued.num_prompt_tokens) == (4, None)
    assert queued.t_ns <= sent.t_ns <= first.t_ns == arrivals[0].t_ns
    assert [arrival.num_tokens for arrival in arrivals] == [1, 1, 1]
    assert (answered.status, answered.num_bytes) == (200, len(response.content))
    assert (answered.num_output_tokens, answered.counted_tokens) == (None, 3)
    assert (finished.reason, finished.num_output_tokens) == ("stop", 3)
    view = rig.state().requests.get(1)
    assert view is not None and view.is_estimate and len(view.itl_ns) == 2


async def test_nothing_that_was_said_or_shown_as_key_is_told(proxied) -> None:
    async with proxied(three_tokens) as rig:
        headers = {"authorization": "Bearer sesame", "x-request-id": "mine"}
        await rig.client.post("/v1/completions", json=ASK, headers=headers)
        await rig.told(RequestFinished)
    told = b"".join(encode_event(event) for event in rig.events)
    assert b"secret" not in told and b"sesame" not in told
    head = rig.fake.peers[0].head
    assert b"authorization: Bearer sesame" in head and b"x-request-id: mine" in head


async def test_what_goes_up_is_what_came(proxied) -> None:
    async def answer(peer) -> None:
        await peer.send(b"HTTP/1.1 201 Made\r\ncontent-length: 2\r\nX-Odd: 1\r\nx-odd: 2\r\n\r\nok")

    async with proxied(answer) as rig:
        response = await rig.client.request(
            "PATCH", "/a%2Fb/c%20d?q=%7B1%7D&r", content=b"\x00\xff" * 99
        )
    peer = rig.fake.peers[0]
    assert peer.head.startswith(b"PATCH /a%2Fb/c%20d?q=%7B1%7D&r HTTP/1.1\r\n")
    assert peer.body == b"\x00\xff" * 99
    assert f"host: {urlsplit(str(rig.client.base_url)).netloc}".encode() not in peer.head
    assert response.status_code == 201 and response.content == b"ok"
    assert response.headers.get_list("x-odd") == ["1", "2"]
    assert rig.events == []


async def test_a_body_in_chunks_passes_in_chunks(proxied) -> None:
    async def answer(peer) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async def parts():
        yield b"one"
        await asyncio.sleep(0.01)
        yield b"two"

    async with proxied(answer) as rig:
        await rig.client.post("/upload", content=parts())
    assert b"transfer-encoding: chunked" in rig.fake.peers[0].head
    assert rig.fake.peers[0].body == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


async def test_packed_bytes_pass_packed(proxied) -> None:
    data = gzip.compress(token("a") + token("b", "length"))

    async def answer(peer) -> None:
        head = CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
        await peer.send(head, chunk(data[:9]), chunk(data[9:]), END)

    async with proxied(answer) as rig:
        async with rig.client.stream("POST", "/v1/completions", json=ASK) as response:
            raw = b"".join([part async for part in response.aiter_raw()])
        (finished,) = await rig.told(RequestFinished)
    assert raw == data and response.headers["content-encoding"] == "gzip"
    assert (finished.reason, finished.num_output_tokens) == ("length", 2)


async def test_head_and_redirects_pass_as_they_are(proxied) -> None:
    async def answer(peer) -> None:
        if peer.head.startswith(b"HEAD"):
            head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n"
            await peer.send(head + b"content-length: 77\r\n\r\n")
        else:
            await peer.send(
                b"HTTP/1.1 302 Found\r\nlocation: http://else/\r\ncontent-length: 0\r\n\r\n"
            )

    async with proxied(answer) as rig:
        head = await rig.client.head("/x")
        moved = await rig.client.get("/y")
    assert (head.status_code, head.headers["content-length"]) == (200, "77")
    assert (moved.status_code, moved.headers["location"]) == (302, "http://else/")
    assert len(rig.fake.peers) == 2


async def test_an_error_passes_and_counts_as_one(proxied) -> None:
    body = b'{"error": {"message": "too many"}}'

    async def answer(peer) -> None:
        head = b"HTTP/1.1 429 Slow\r\ncontent-type: application/json\r\nretry-after: 3\r\n"
        await peer.send(head + f"content-length: {len(body)}\r\n\r\n".encode() + body)

    async with proxied(answer) as rig:
        response = await rig.client.post("/v1/chat/completions", json=ASK)
        (aborted,) = await rig.told(RequestAborted)
    assert (response.status_code, response.content) == (429, body)
    assert response.headers["retry-after"] == "3"
    assert aborted.reason == "error: status 429"
    assert rig.of(RequestAnswered)[0].status == 429


async def test_a_client_that_goes_ends_its_request_there(proxied) -> None:
    async def answer(peer) -> bool:
        await peer.send(CHUNKED, chunk(token("a")))
        return await peer.gone()

    async with proxied(answer) as rig:
        async with rig.client.stream("POST", "/v1/completions", json=ASK) as response:
            async for _ in response.aiter_raw():
                break
        (aborted,) = await rig.told(RequestAborted)
        await asyncio.wait_for(rig.fake.done.wait(), 10)
    assert rig.fake.outcomes == [True]
    assert (aborted.reason, aborted.num_output_tokens) == ("disconnect", 1)
    assert rig.forwarder.num_running == 0


async def test_a_client_that_goes_on_hearing_the_last_word_has_its_answer(proxied) -> None:
    async def never_ends(peer) -> None:
        last = token("b", "stop") + b"data: [DONE]\n\n"
        await peer.send(CHUNKED, chunk(token("a")), chunk(last))
        await peer.gone()

    async with proxied(never_ends) as rig:
        async with rig.client.stream("POST", "/v1/completions", json=ASK) as response:
            async for line in response.aiter_lines():
                if line == "data: [DONE]":
                    break
        await rig.told(RequestFinished)
    (finished,) = rig.of(RequestFinished)
    assert (finished.reason, finished.num_output_tokens) == ("stop", 2)
    assert not rig.of(RequestAborted)


async def test_a_client_that_goes_before_its_answer_begins(proxied) -> None:
    async def answer(peer) -> bool:
        return await peer.gone()

    async with proxied(answer) as rig:
        with contextlib.suppress(httpx.ReadTimeout):
            await rig.client.post("/v1/completions", json=ASK, timeout=0.2)
        (aborted,) = await rig.told(RequestAborted)
        await asyncio.wait_for(rig.fake.done.wait(), 10)
    assert rig.fake.outcomes == [True] and aborted.reason == "disconnect"


async def test_an_answer_that_breaks_off_breaks_off_for_the_client(proxied) -> None:
    async def answer(peer) -> None:
        await peer.send(CHUNKED, chunk(token("a")))

    async with proxied(answer) as rig:
        with pytest.raises(httpx.RemoteProtocolError):
            await rig.client.post("/v1/completions", json=ASK)
        (aborted,) = await rig.told(RequestAborted)
    assert aborted.reason == "error: the answer broke off"


async def test_a_client_that_does_not_read_holds_the_server_back(proxied) -> None:
    sent = 0

    async def answer(peer) -> None:
        nonlocal sent
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 268435456\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(4096):
                peer.writer.write(b"x" * 65_536)
                await peer.writer.drain()
                sent += 65_536

    async with proxied(answer) as rig:
        parts = urlsplit(rig.url)
        with socket.create_connection((parts.hostname, parts.port)) as client:
            client.sendall(b"GET /big HTTP/1.1\r\nhost: localhost\r\n\r\n")
            before = -1
            while sent != before:
                before = sent
                await asyncio.sleep(0.3)
    assert sent < 64 << 20


async def test_a_server_that_is_not_there_is_said_in_one_line(proxied_to) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with proxied_to(url) as rig:
            responses = [await rig.client.post("/v1/completions", json=ASK) for _ in range(2)]
            (aborted, _) = await rig.told(RequestAborted, 2)
    assert {response.status_code for response in responses} == {502}
    error = responses[0].json()["error"]
    assert error["message"] == f"{url} cannot be reached: no connection"
    assert (error["type"], error["code"]) == ("upstream_error", "upstream_unreachable")
    assert rig.complaints == [error["message"]]
    assert aborted.reason == "error: upstream_unreachable"
    assert rig.of(RequestAnswered)[0].status == 0


async def closes_after_each(peer) -> None:
    """As llama.cpp does after a stream, and says nothing of it in the headers."""
    await peer.send(CHUNKED)
    peer.writer.write(chunk(token("a", "stop") + b"data: [DONE]\n\n") + END)
    peer.writer.close()


async def closes_when_asked_again(peer) -> None:
    """It has read the request by then: who knows what it has begun."""
    await three_tokens(peer)
    await peer.read_request()


@pytest.fixture
def racing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept connection is used at once, and its end is not seen before: as when both cross."""
    monkeypatch.setattr("llmtop.proxy.upstream.SETTLE_S", 0.0)
    monkeypatch.setattr(Wire, "is_open", True)
    monkeypatch.setattr(Wire, "is_quiet", True)


@pytest.mark.parametrize("in_chunks", [False, True])
async def test_what_a_server_closed_before_it_came_is_sent_once_more(
    proxied, racing: None, in_chunks: bool
) -> None:
    body = json.dumps(ASK).encode()

    async def pieces():
        yield body[:9]
        yield body[9:]

    async with proxied(closes_after_each) as rig:
        for num_done in range(1, 4):
            content = pieces() if in_chunks else body
            response = await rig.client.post("/v1/completions", content=content)
            assert response.status_code == 200 and response.content.endswith(b"[DONE]\n\n")
            await rig.told(RequestFinished, num_done)
        assert [b"a secret" in peer.body for peer in rig.fake.peers] == [True] * 3
    assert len(rig.of(RequestQueued)) == len(rig.of(RequestForwarded)) == 3
    assert rig.of(RequestAborted) == rig.complaints == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_a_server_has_read_is_sent_once_more_only_if_that_changes_nothing(
    proxied, racing: None, method: str
) -> None:
    async with proxied(closes_when_asked_again) as rig:
        assert (await rig.client.post("/v1/completions", json=ASK)).status_code == 200
        await rig.told(RequestFinished)
        response = await rig.client.request(method, "/v1/completions")
        num_asked = len(rig.fake.peers)
    assert (response.status_code, num_asked) == ((200, 2) if method == "GET" else (502, 1))


async def test_what_a_new_connection_does_not_answer_is_an_error(proxied) -> None:
    """That is no accident, even where nothing would change."""

    async def script(peer) -> None:
        pass

    async with proxied(script) as rig:
        response = await rig.client.get("/v1/models")
        assert response.status_code == 502
        assert "ended the connection without an answer" in response.json()["error"]["message"]
        assert len(rig.fake.peers) == 1


async def test_a_body_too_large_to_be_kept_is_not_sent_again(proxied, racing: None) -> None:
    async with proxied(closes_when_asked_again) as rig:
        assert (await rig.client.post("/v1/completions", json=ASK)).status_code == 200
        await rig.told(RequestFinished)
        response = await rig.client.put("/file", content=b"a" * (2 << 20))
        assert response.status_code == 502 and len(rig.fake.peers) == 1


async def test_the_end_of_a_kept_connection_is_seen_before_the_event_loop_looks() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop = asyncio.get_running_loop()
        _, wire = await loop.create_connection(lambda: Wire(5.0), *listener.getsockname())
        server, _ = listener.accept()
        assert wire.is_open and wire.is_quiet
        server.close()
        assert wire.is_open, "nobody has looked"
        assert not wire.is_quiet
        wire.close()


async def test_a_connection_is_kept_for_the_next_request_but_not_for_one_at_once(
    proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answers(peer) -> None:
        while True:
            await three_tokens(peer)
            await peer.read_request()

    async with proxied(answers) as rig:
        for settle_s, num_peers in ((60.0, 1), (60.0, 2), (0.0, 2), (0.0, 2)):
            monkeypatch.setattr("llmtop.proxy.upstream.SETTLE_S", settle_s)
            assert (await rig.client.post("/v1/completions", json=ASK)).status_code == 200
            await rig.told(RequestFinished, len(rig.of(RequestFinished)))
            assert len(rig.fake.peers) == num_peers


async def test_a_silent_server_is_given_up(proxied) -> None:
    async def answer(peer) -> bool:
        return await peer.gone()

    async with proxied(answer, silence_s=0.2) as rig:
        response = await rig.client.post("/v1/completions", json=ASK)
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "upstream_timeout"


async def test_a_server_without_tls_is_told_so(proxied_to) -> None:
    async def speak_plainly(reader, writer) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(speak_plainly, "127.0.0.1", 0) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with proxied_to(url) as rig:
            response = await rig.client.get("/v1/models")
    assert response.status_code == 502
    assert response.json()["error"]["message"] == f"{url} does not speak TLS"


async def test_strange_pages_do_not_pass_the_guard(proxied) -> None:
    async with proxied(three_tokens) as rig:
        response = await rig.client.get("/v1/models", headers={"origin": "http://evil.example"})
    assert response.status_code == 403 and rig.fake.peers == []


async def test_a_stop_ends_what_runs(proxied) -> None:
    async def answer(peer) -> bool:
        await peer.send(CHUNKED, chunk(token("a")))
        return await peer.gone()

    async with proxied(answer) as rig:
        async with rig.client.stream("POST", "/v1/completions", json=ASK) as response:
            async for _ in response.aiter_raw():
                break
            await rig.forwarder.cut_short()
            (aborted,) = await rig.told(RequestAborted)
            refused = await rig.client.get("/v1/models")
    assert aborted.reason == "shutdown" and refused.status_code == 503
