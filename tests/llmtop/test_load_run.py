"""The generator against a server over real sockets, scripted here so that faults can be chosen."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from llmtop.errors import LoadError
from llmtop.load import Lengths, LoadGenerator, LoadProgress, LoadSpec, run_load
from llmtop.load.client import LoadClient
from llmtop.load.connection import Connections
from llmtop.load.live import progress_line
from llmtop.load.prompts import Prompt
from llmtop.load.result import RequestResult
from llmtop.load.spec import Span

SMALL = {"prompt_tokens": Lengths((Span(4, 8),)), "output_tokens": Lengths((Span(3, 3),))}


class ScriptedServer:
    """Answers with as many words as asked for. `fault` chooses what goes wrong."""

    def __init__(self) -> None:
        self.fault = ""
        self.bodies: list[dict[str, object]] = []
        self.num_open = 0
        self.max_open = 0
        self.held_until = 0  # no stream goes on before so many were open at once
        self.port = 0
        routes = [
            Route("/v1/models", self.models),
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/v1/chat/completions", self.completions, methods=["POST"]),
            Route("/tokenize", self.tokenize, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes)

    async def models(self, request: Request) -> Response:
        if self.fault == "key":
            return JSONResponse({"error": "Unauthorized"}, 401)
        if self.fault == "starting":
            return JSONResponse({"error": "The engine is starting"}, 503)
        return JSONResponse({"data": [{"id": "scripted"}]})

    async def tokenize(self, request: Request) -> Response:
        body = await request.json()
        return JSONResponse({"count": len(body["prompt"].split())})

    async def completions(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        if self.fault == "busy":
            return JSONResponse({"error": {"message": "queue full"}}, 503)
        return StreamingResponse(self.stream(body), media_type="text/event-stream")

    async def stream(self, body: dict[str, object]) -> AsyncIterator[str]:
        self.num_open += 1
        self.max_open = max(self.max_open, self.num_open)
        while self.max_open < self.held_until:
            await asyncio.sleep(0.001)
        try:
            count = 0 if self.fault == "empty" else int(str(body["max_tokens"]))
            for _ in range(count):
                await asyncio.sleep(60 if self.fault == "stuck" else 0.001)
                part = {"text": " word"} if "prompt" in body else {"delta": {"content": " word"}}
                yield f"data: {json.dumps({'choices': [part]})}\n\n"
            usage = {"prompt_tokens": 5, "completion_tokens": count}
            yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n"
            if self.fault != "cut":
                yield "data: [DONE]\n\n"
        finally:
            self.num_open -= 1

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer()
    running = uvicorn.Server(
        uvicorn.Config(scripted.app, port=0, log_level="error", lifespan="off")
    )
    task = asyncio.create_task(running.serve())
    while not running.started:
        await asyncio.sleep(0.001)
    scripted.port = running.servers[0].sockets[0].getsockname()[1]
    yield scripted
    running.should_exit = running.force_exit = True
    await task


async def test_a_closed_loop_sends_what_was_asked_with_that_many_streams(
    server: ScriptedServer,
) -> None:
    progress = LoadProgress()
    server.held_until = 4
    spec = LoadSpec(server.url, concurrency=4, num_requests=20, warmup_requests=4, **SMALL)
    report = await run_load(spec, progress)
    assert (report.num_ok, report.num_failed, report.num_warmup) == (20, 0, 4)
    assert report.model == "scripted"
    assert report.num_output_tokens == 60
    assert server.max_open == 4
    assert (progress.num_ok, progress.num_in_flight, progress.num_output_tokens) == (20, 0, 72)
    assert report.itl_per_token and report.usage
    assert report.prompt_lengths == "tokens of the server's tokenizer"
    assert all(body["max_tokens"] == 3 and body["stream"] for body in server.bodies)


async def test_the_chat_endpoint_is_measured_alike(server: ScriptedServer) -> None:
    spec = LoadSpec(server.url, endpoint="chat", concurrency=1, num_requests=2, **SMALL)
    report = await run_load(spec)
    assert report.num_ok == 2
    assert report.latencies.ttft_ms is not None and report.latencies.ttft_ms.p50 > 1
    assert "messages" in server.bodies[0]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("busy", "status 503: queue full"),
        ("empty", "no generated tokens"),
        ("cut", "the stream ended early"),
    ],
)
async def test_faults_are_errors_and_no_latencies(
    server: ScriptedServer, fault: str, reason: str
) -> None:
    server.fault = fault
    report = await run_load(LoadSpec(server.url, concurrency=1, num_requests=2, **SMALL))
    assert report.errors == {reason: 2}
    assert report.latencies.ttft_ms is None and report.latencies.e2el_ms is None
    assert report.throughput is None


async def test_poisson_arrivals_are_all_sent_and_the_bound_holds(server: ScriptedServer) -> None:
    spec = LoadSpec(server.url, rate_per_s=2000, concurrency=3, num_requests=40, **SMALL)
    report = await run_load(spec)
    assert report.num_ok == 40
    assert server.max_open <= 3
    queue = report.latencies.client_queue_ms
    assert queue is not None and queue.max > 1, "arrivals beyond the bound wait, and it shows"


async def test_a_run_that_is_stopped_reports_what_it_has(server: ScriptedServer) -> None:
    stop, progress = asyncio.Event(), LoadProgress()
    spec = LoadSpec(server.url, concurrency=2, **SMALL)
    run = asyncio.create_task(run_load(spec, progress, stop))
    while progress.num_ok < 6:
        await asyncio.sleep(0.001)
    server.fault = "stuck"
    while not (progress.num_in_flight == 2 and server.num_open == 2):
        await asyncio.sleep(0.001)
    stop.set()
    report = await asyncio.wait_for(run, 20)
    assert report.num_ok >= 6
    assert report.num_failed == 0
    assert report.num_cancelled == 2


async def test_the_key_is_sent_and_a_missing_one_is_one_clear_line(server: ScriptedServer) -> None:
    server.fault = "key"
    with pytest.raises(LoadError, match="wants a key"):
        await run_load(LoadSpec(server.url, num_requests=1))


async def test_a_server_that_starts_is_told_apart_from_one_without_a_model(
    server: ScriptedServer,
) -> None:
    server.fault = "starting"
    with pytest.raises(LoadError, match="answers 503") as found:
        await run_load(LoadSpec(server.url, num_requests=1))
    assert "/health" in found.value.hint and "--model" not in found.value.hint


async def test_a_server_that_is_not_there_is_one_clear_line() -> None:
    with pytest.raises(LoadError, match="no answer from"):
        await run_load(LoadSpec("http://127.0.0.1:9", num_requests=1))


async def test_the_switch_starts_stops_and_sends_other_prompts_again(
    server: ScriptedServer,
) -> None:
    generator = LoadGenerator(server.url)
    prompts = []
    for _ in range(2):
        server.bodies.clear()
        generator.start()
        generator.start()
        while generator.progress.num_ok < 5:
            await asyncio.sleep(0.001)
        assert generator.running
        await generator.stop()
        assert not generator.running
        prompts.append({str(body["prompt"]) for body in server.bodies})
    assert not prompts[0] & prompts[1]


async def test_the_switch_says_why_there_is_no_load() -> None:
    generator = LoadGenerator("http://127.0.0.1:9")
    generator.start()
    while generator.running:
        await asyncio.sleep(0.001)
    assert "no answer from" in generator.progress.error


def test_the_live_line_fits_a_narrow_terminal() -> None:
    spec = LoadSpec("http://h", num_requests=100000, duration_s=86400.0)
    progress = LoadProgress(t_start_ns=0, num_ok=99999, num_failed=99999, num_in_flight=9999)
    assert len(progress_line(spec, progress, 999999.0)) < 100
    assert "asking the server" in progress_line(spec, LoadProgress(), 0.0)


class RawServer:
    """Plays what it is told to, byte by byte, so that HTTP itself can go wrong."""

    def __init__(self, *plays: bytes) -> None:
        self._plays = list(plays)
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while self._plays:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            self.requests.append(head + await reader.readexactly(length))
            play = self._plays.pop(0)
            for at in range(0, len(play), 7):
                writer.write(play[at : at + 7])
                await writer.drain()
                await asyncio.sleep(0)
            if not play or b"close" in play:
                break
        writer.close()

    async def send(self, *, count: int = 1, **spec: object) -> list[RequestResult]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        results = []
        async with server, Connections(url, {}) as connections:
            client = LoadClient(LoadSpec(url, **spec), "m", connections, LoadProgress())
            for number in range(count):
                results.append(await client.send(number, Prompt("hi", 4), 0, warmup=False))
        return results


def response(body: bytes, head: bytes = b"HTTP/1.1 200 OK") -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:9], body[9:]))
    return head + b"\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


GOOD = b'data: {"choices":[{"text":"a"}]}\n\ndata: [DONE]\n\n'


async def test_a_stream_in_pieces_is_one_answer_and_its_connection_is_kept() -> None:
    server = RawServer(response(GOOD), response(GOOD))
    results = await server.send(count=2)
    assert [result.error for result in results] == ["", ""]
    assert len(server.requests) == 2


async def test_a_kept_connection_that_was_closed_is_used_again_once_on_a_new_one() -> None:
    server = RawServer(response(GOOD), b"", response(GOOD))
    first, second = await server.send(count=2)
    assert (first.resent, second.resent) == (0, 1)
    assert second.ok


async def test_a_server_that_never_answers_is_asked_only_twice() -> None:
    server = RawServer(b"", b"", b"")
    (result,) = await server.send()
    assert len(server.requests) == 2
    assert "closed the connection" in result.error


async def test_a_body_that_ends_with_the_connection_is_whole_if_it_says_so() -> None:
    head = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
    whole, cut = await RawServer(head + GOOD, head + GOOD[:30]).send(count=2)
    assert whole.ok
    assert cut.error == "no generated tokens"


@pytest.mark.parametrize(
    ("play", "reason"),
    [
        (b"nonsense, close\r\n\r\n", "this is no HTTP response"),
        (b"HTTP/1.1 200 OK\r\nclose", "connection lost"),
        (response(b'{"error":{"message":"no"}}', b"HTTP/1.1 503 Busy"), "status 503: no"),
        (response(b"x" * 9000, b"HTTP/1.1 500 Broken"), "status 500: xxx"),
        (response(b'data: {"error":{"message":"lost"}}\n\n'), "error in the stream: lost"),
    ],
)
async def test_what_is_no_answer_is_told_in_one_short_line(play: bytes, reason: str) -> None:
    (result,) = await RawServer(play).send()
    assert result.error.startswith(reason) and len(result.error) < 250
    assert result.ttft_ns is None


async def test_an_endless_line_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmtop.load.answer.MAX_LINE_BYTES", 100)
    (result,) = await RawServer(response(b"data: " + b"x" * 500)).send()
    assert result.error == "a line of the stream is too long"


async def test_an_answer_that_never_ends_has_its_time() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\ndata: "
    (result,) = await RawServer(head, head).send(timeout_s=0.05)
    assert result.error == "no whole answer within 0.05 s"
