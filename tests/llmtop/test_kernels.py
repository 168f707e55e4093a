"""The window of kernels: as rows, as a screen, and asked for over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from llmtop import orders
from llmtop.app import LlmtopApp
from llmtop.orders import MAX_TEXT, order_capture
from llmtop.viewing import Viewing
from llmtop.widgets.kerneltable import kernel_rows
from llmtop.widgets.rows import plain, width_of
from profiler.events import KernelRow, KernelWindow, ModelShape, SessionStart, Step
from profiler.folds.steps import Steps

MS = 1_000_000
ROWS = (
    KernelRow("void cutlass::\x1b[31mKernel<a, b>\n" + "x" * 200, 112, 60 * MS),
    KernelRow("_decode_kernel", 56, 20 * MS),
    KernelRow("nothing", 0, 0),
)
WINDOW = KernelWindow(900 * MS, 100 * MS, 1500 * MS, 11, 2, "cuda", ROWS)


def step(number: int, took_ms: int) -> Step:
    begin = number * 100 * MS
    return Step(begin, begin + took_ms * MS, number, 0, None, (), 0, 0, 0, 0, 0)


@pytest.mark.parametrize("width", [56, 76, 116])
def test_rows_divide_by_steps_and_fit(width: int) -> None:
    steps = Steps()
    for number, took_ms in ((9, 30), (10, 32), (11, 40), (12, 44)):
        steps.step(step(number, took_ms), 0, 0)
    rows = kernel_rows(WINDOW, None, steps, width)
    lines = [plain(row) for row in rows]
    head = " ".join(lines[: lines.index("")])
    assert "steps 11 to 12" in head
    assert "40.000 ms a step in kernels" in head
    assert "a step took 42.0 ms, before 31.0" in head
    assert "stood still for 1.5s" in head
    first, second = lines[-3:-1]
    assert first.split()[:4] == ["30.000", "75%", "56.0", "535.7"]
    assert second.split()[:4] == ["10.000", "25%", "28.0", "357.1"]
    assert "\x1b" not in "".join(lines)
    assert all(width_of(row) <= width for row in rows[lines.index("") :])


def test_parts_tell_how_fast_they_were_and_what_bounds_them() -> None:
    shape = ModelShape(300, 200, 60, 50, 5, 16)
    start = SessionStart(
        0, 0, "0", "m", "cuda:0", 2, 10, 16, 16 * 40, 600, 64, 8, 64, {}, 1e6, 1e7, shape
    )
    steps, rows = Steps(), (KernelRow("gemm", 2, 3 * MS, "linear"), KernelRow("x", 1, MS))
    for number in (11, 12):
        work = {"computed_tokens": 2, "sampled_rows": 2, "context_tokens": 42}
        steps.step(msgspec.structs.replace(step(number, 4), **work), 0, 0)
    window = msgspec.structs.replace(WINDOW, kernels=rows)
    lines = [plain(row) for row in kernel_rows(window, start, steps, 116)]
    (line,) = [line for line in lines if line.startswith("linear ")]
    assert "75% of the time" in line
    assert "333 kB/s" in line
    assert "667 kFLOP/s" in line
    assert "33% of what the memory allows" in line
    short = "\n".join(plain(row) for row in kernel_rows(window, start, Steps(), 116))
    assert "of the time" not in short


def test_steps_that_are_not_kept_have_no_pace() -> None:
    assert "a step took -- ms, before --" in plain(kernel_rows(WINDOW, None, Steps(), 116)[0])


async def test_the_screen_waits_for_a_newer_window(
    busy_source: Any, text_of: Callable[[Any], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None, int]] = []

    async def answer(base_url: str, api_key: str | None, num_steps: int) -> str:
        asked.append((base_url, api_key, num_steps))
        return "" if num_steps == 8 else "This server takes no orders"

    monkeypatch.setattr("llmtop.screens.orderkeys.order_capture", answer)
    app = LlmtopApp(busy_source, "http://127.0.0.1:9", "key", viewing=Viewing(control=True))
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("T", *["backspace"] * 2, "9", "9", "9", "enter")
        await pilot.pause()
        assert "from 1 to 512" in text_of(app)
        await pilot.press(*["backspace"] * 3, "9", "enter")
        await pilot.pause(0.1)
        assert len(app.screen_stack) == 2  # refused: no screen opens
        await pilot.press("T", *["backspace"] * 2, "8", "enter")
        await pilot.pause(0.1)
        assert "waiting for the steps" in text_of(app)
        state = busy_source.poll(0)
        state.kernels = KernelWindow(state.t_ns + 1, 0, 0, 1, 2, "cpu", ROWS)
        await pilot.pause(0.6)
        assert "_decode_kernel" in text_of(app)
        await pilot.press("escape")
        await pilot.pause()
        assert len(app.screen_stack) == 2
    assert asked == [("http://127.0.0.1:9", "key", 9), ("http://127.0.0.1:9", "key", 8)]


async def test_a_frame_that_comes_when_no_screen_is_left_is_let_pass(busy_source: Any) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(100, 30)):
        app.frame()
        screens, app._screen_stacks[app.current_mode] = app.screen_stack, []
        app.frame()
        app._screen_stacks[app.current_mode] = screens


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [
        (202, b"{}", ""),
        (403, b'{"error": {"message": "no \\u001b[2J orders"}}', "no  orders"),
        (500, b"<html>", "the server answered 500"),
        (400, b'{"error": {"message": "' + b"x" * 999 + b'"}}', "x" * MAX_TEXT),
    ],
)
async def test_what_the_server_says_is_one_clean_line(
    status: int, content: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.url == "http://host:1/v1/llmtop/capture"
        assert request.headers["authorization"] == "Bearer k"
        return httpx.Response(status, content=content)

    client = httpx.AsyncClient
    transport = httpx.MockTransport(handle)
    monkeypatch.setattr(orders.httpx, "AsyncClient", lambda **k: client(transport=transport))
    assert (await order_capture("http://host:1/v1", "k", 4)).replace("[2J", "") == said


async def test_a_server_that_is_not_there_is_told_of() -> None:
    assert (await order_capture("http://127.0.0.1:1", None, 4)).startswith("no answer")
