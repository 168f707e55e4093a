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
from llmtop.load.live import progress_line
from llmtop.load.spec import Span

SMALL = {"prompt_tokens": Lengths((Span(4, 8),)), "output_tokens": Lengths((Span(3, 3),))}


class ScriptedServer:
    """Answers with as many words as asked for. `fault` chooses what goes wrong."""

    def __init__(self) -> None:
        self.fault = ""
        self.bodies: list[dict[str, object]] = []
        self.num_open = 0
        self.max_open = 0
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
    spec = LoadSpec(server.url, concurrency=4, num_requests=20, warmup_requests=2, **SMALL)
    report = await run_load(spec, progress)
    assert (report.num_ok, report.num_failed, report.num_warmup) == (20, 0, 2)
    assert report.model == "scripted"
    assert report.num_output_tokens == 60
    assert server.max_open == 4
    assert (progress.num_ok, progress.num_in_flight, progress.num_output_tokens) == (20, 0, 66)
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
    report = await asyncio.wait_for(run, 5)
    assert report.num_ok >= 6
    assert report.num_failed == 0
    assert report.num_cancelled == 2


async def test_the_key_is_sent_and_a_missing_one_is_one_clear_line(server: ScriptedServer) -> None:
    server.fault = "key"
    with pytest.raises(LoadError, match="wants a key"):
        await run_load(LoadSpec(server.url, num_requests=1))


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
