"""The prompt box against a server over real sockets, scripted so that faults can be chosen."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from textual.pilot import Pilot
from textual.widgets import Input

from llmtop.app import LlmtopApp
from llmtop.screens.prompt import PromptScreen

TextOf = Callable[[Any], str]
Until = Callable[[Any, Callable[[], bool]], Awaitable[None]]
ANSWER = ["Paris ", "is \x1b[31mthe", " capital.\x07\nIt has 結果 many streets."]


class Answering:
    """Streams `ANSWER`. `fault` is what goes wrong; `open` counts the streams that go on."""

    def __init__(self) -> None:
        self.fault = ""
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.open = 0
        self.url = ""
        self.app = Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
            ]
        )

    async def models(self, request: Request) -> Response:
        return JSONResponse({"data": [{"id": "scripted"}]})

    async def chat(self, request: Request) -> Response:
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("authorization", ""))
        if self.fault == "busy":
            return JSONResponse({"error": {"message": "the queue is\nfull \x1b[5m"}}, 503)
        return StreamingResponse(self.stream(), media_type="text/event-stream")

    async def stream(self) -> AsyncIterator[str]:
        self.open += 1
        try:
            for count, piece in enumerate(ANSWER, 1):
                usage = {"prompt_tokens": 9, "completion_tokens": count}
                delta = {"choices": [{"delta": {"content": piece}}], "usage": usage}
                yield f"data: {json.dumps(delta)}\n\n"
                await asyncio.sleep(60 if self.fault == "stuck" else 0.002)
            yield 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
            yield "data: [DONE]\n\n"
        finally:
            self.open -= 1


@pytest.fixture
async def server() -> AsyncIterator[Answering]:
    answering = Answering()
    config = uvicorn.Config(answering.app, port=0, log_level="error", lifespan="off")
    running = uvicorn.Server(config)
    task = asyncio.create_task(running.serve())
    while not running.started:
        await asyncio.sleep(0.001)
    answering.url = f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    yield answering
    running.should_exit = running.force_exit = True
    await task


async def ask(pilot: Pilot[Any], question: str) -> PromptScreen:
    screen = pilot.app.screen
    assert isinstance(screen, PromptScreen)
    screen.query_one(Input).value = question
    await pilot.press("enter")
    return screen


async def test_an_answer_streams_and_is_measured(
    busy_source: Any, server: Answering, text_of: TextOf, until: Until
) -> None:
    app = LlmtopApp(busy_source, server.url, "secret")
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("p")
        await pilot.pause()
        screen = await ask(pilot, "What is the capital of France?")
        await until(pilot, lambda: screen.exchanges[0].state == "answered")
        await pilot.pause()
        text = text_of(app)
    assert screen.exchanges[0].answer == "Paris is the capital.\nIt has 結果 many streets."
    assert "> What is the capital of France?" in text
    assert "TTFT" in text and "3 tokens" in text and "tokens/s at this client" in text
    assert server.keys == ["Bearer secret"]


async def test_a_second_question_carries_the_conversation(
    busy_source: Any, server: Answering, until: Until
) -> None:
    app = LlmtopApp(busy_source, server.url)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("p")
        await pilot.pause()
        for number, question in enumerate(["one?", "two?"]):
            screen = await ask(pilot, question)
            await until(pilot, lambda: screen.exchanges[number].state == "answered")  # noqa: B023
    roles = [message["role"] for message in server.bodies[1]["messages"]]
    assert roles == ["user", "assistant", "user"]


async def test_escape_cancels_first_and_closes_second(
    busy_source: Any, server: Answering, text_of: TextOf, until: Until
) -> None:
    server.fault = "stuck"
    app = LlmtopApp(busy_source, server.url)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("p")
        await pilot.pause()
        screen = await ask(pilot, "Tell me everything")
        await until(pilot, lambda: bool(screen.exchanges[0].answer))
        assert server.open == 1
        await pilot.press("escape")
        await until(pilot, lambda: server.open == 0)
        await until(pilot, lambda: screen.exchanges[0].state == "cancelled")
        await pilot.pause()
        assert "cancelled" in text_of(app) and "Paris" in text_of(app)
        await pilot.press("escape")
        await pilot.pause()
        assert not isinstance(app.screen, PromptScreen)


async def test_closing_the_program_ends_an_answer(
    busy_source: Any, server: Answering, until: Until
) -> None:
    server.fault = "stuck"
    app = LlmtopApp(busy_source, server.url)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("p")
        await pilot.pause()
        screen = await ask(pilot, "Tell me everything")
        await until(pilot, lambda: bool(screen.exchanges[0].answer))
    async with asyncio.timeout(30):
        while server.open:
            await asyncio.sleep(0.01)
    assert server.open == 0


@pytest.mark.parametrize("fault", ["busy", "gone"])
async def test_an_error_is_one_clean_line(
    busy_source: Any, server: Answering, text_of: TextOf, fault: str, until: Until
) -> None:
    server.fault = fault
    url = "http://127.0.0.1:9" if fault == "gone" else server.url
    app = LlmtopApp(busy_source, url)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("p")
        await pilot.pause()
        screen = await ask(pilot, "Anybody there?")
        await until(pilot, lambda: screen.exchanges[0].failed)
        await pilot.pause()
        text = text_of(app)
    state = screen.exchanges[0].state
    assert state.isprintable()
    assert ("status 503: the queue is full" if fault == "busy" else "no answer from") in text
