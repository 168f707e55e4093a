"""A dashboard on a proxy: what nobody tells says so, and is never a zero."""

from __future__ import annotations

from typing import Any

import pytest

from llmtop.app import LlmtopApp
from llmtop.columns import FIELDS, cell_text
from llmtop.journal import request_entry
from llmtop.plain import summary
from llmtop.widgets.timeline import timeline
from llmtop.widgets.waterfall import phase_line, waterfall
from profiler.events import (
    Phase,
    RequestAborted,
    RequestAnswered,
    RequestFinished,
    RequestFirstToken,
    RequestForwarded,
    RequestQueued,
    SessionStart,
    TokenArrival,
    TokensReceived,
)
from profiler.explain.explainer import Explainer
from profiler.snapshot import snapshot
from profiler.state import SessionState

MS = 1_000_000
T0 = 1000 * 1000 * MS
UPSTREAM = "http://127.0.0.1:9"


@pytest.fixture
def state() -> SessionState:
    """One request, whose server counted nothing: three pieces came."""
    state = SessionState()
    for event in (
        SessionStart(T0, 10**18, "0.1.0", "m", "", 0, 0, 0, 0, 0, 0, 0, 0, upstream=UPSTREAM),
        Phase(T0, "ready"),
        RequestQueued(T0, 1, "req-1", None, None),
        RequestForwarded(T0 + MS, 1),
        RequestFirstToken(T0 + 20 * MS, 1),
        TokensReceived(
            T0 + 50 * MS, tuple(TokenArrival(1, T0 + at * MS, 1) for at in (20, 30, 45))
        ),
        RequestAnswered(T0 + 50 * MS, 1, 200, 300, T0 + 20 * MS, counted_tokens=3),
        RequestFinished(T0 + 50 * MS, 1, "stop", 3),
    ):
        state.apply(event)
    return state


def text_of(row) -> str:
    return "".join(text for text, _ in row)


def test_a_row_knows_what_it_does_not_know(state: SessionState) -> None:
    view = state.requests.get(1)
    assert view is not None
    cells = {name: cell_text(field, view, state.t_ns) for name, field in FIELDS.items()}
    unknown = {name for name, text in cells.items() if text == "--"}
    assert unknown == {"in", "hit", "pages", "queue", "preempts"}
    assert cells["out"] == "~3" and cells["ttft"] == "20.0"
    assert request_entry(view).text == "req-1 stop: -- in, ~3 out, ttft 20.0 ms"


def test_the_waterfall_tells_the_two_phases_apart(state: SessionState) -> None:
    view = state.requests.get(1)
    assert view is not None
    assert text_of(phase_line(view, state.t_ns)).split() == [
        "░", "queue", "1.0", "ms", "▒", "upstream", "19.0", "ms", "█", "decode", "30.0", "ms",
    ]  # fmt: skip
    assert len(waterfall(view, state.t_ns, 60)) == 4
    assert "stop" in text_of(timeline(view, state.t_ns, MS, 70))


def test_a_slow_token_is_explained_by_nobody(state: SessionState) -> None:
    view = state.requests.get(1)
    assert view is not None
    assert Explainer(state).line(view, 2) == (
        "req-1 token 3 15.0 ms = unexplained (not seen from outside) 15.0"
    )


def test_numbers_for_scripts_are_null_where_nobody_tells(state: SessionState) -> None:
    state.advance(T0 + 2000 * MS)
    found = snapshot(state)
    assert found.kv is found.device is found.requests.waiting is None
    assert found.requests.preemptions is None
    rates = found.rates
    assert rates.prompt_tokens_per_s is rates.cached_tokens_per_s is rates.steps_per_s is None
    assert rates.output_tokens_per_s is not None and found.latency.ttft_ms is not None
    restored = snapshot(SessionState.restore(state.keyframe()))
    assert restored.rates.steps_per_s is None
    line = summary(state)
    assert "waiting --" in line and "kv -- used" in line and "prompt -- tok/s" in line


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_every_tab_says_what_is_not_to_be_seen(
    state: SessionState, source_of: Any, text_of: Any, size: tuple[int, int]
) -> None:
    app = LlmtopApp(source_of(state))
    async with app.run_test(size=size) as pilot:
        shown = {}
        for key in ("1", "2", "3", "5"):
            await pilot.press(key)
            app.frame()
            await pilot.pause()
            shown[key] = text_of(app)
        await pilot.press("2", "down", "enter")
        app.frame()
        await pilot.pause()
        detail = text_of(app)
        await pilot.press("enter")
        assert app.model.detail
    assert "m at http://127.0.0.1:9" in shown["1"] or size[0] < 120
    assert "cannot tell the server's pages" in shown["1"] + shown["3"]
    assert "cannot tell the server's steps" in shown["5"]
    assert "~3" in shown["2"] and "status 200" in detail
    assert "upstream" in detail


def test_a_request_that_never_reached_the_server_holds_no_known_number_of_pages(
    state: SessionState,
) -> None:
    reason = "error: upstream_unreachable"
    state.apply(RequestQueued(T0 + 60 * MS, 2, "req-2", None, None))
    state.apply(RequestAnswered(T0 + 61 * MS, 2, 502, 0, None))
    state.apply(RequestAborted(T0 + 61 * MS, 2, reason, 0))
    view = state.requests.get(2)
    assert view is not None
    cells = {name: cell_text(field, view, state.t_ns) for name, field in FIELDS.items()}
    assert (cells["pages"], cells["phase"], cells["finish"]) == ("--", "aborted", reason)
