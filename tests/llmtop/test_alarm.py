"""What opens and closes is noticed once, and passed on without making anybody wait."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmtop.alarm import Alarm
from llmtop.app import LlmtopApp
from llmtop.journal import journal
from llmtop.plain import Narrator
from llmtop.viewmodel import Connection
from llmtop.webhook import Webhook
from profiler.events import Finding, SessionStart
from profiler.objectives import parse_objectives
from profiler.state import SessionState

S = 1_000_000_000
TextOf = Callable[[Any], str]


def finding(number: int, status: str, t_s: int, level: str = "alert", **more: Any) -> Finding:
    text = more.pop("text", f"number {number} is late")
    return Finding(t_s * S, number, "slo x", level, status, (t_s - 2) * S, text, **more)


def test_news_is_told_once(busy_state: SessionState) -> None:
    alarm, t_s = Alarm(), busy_state.t_ns // S
    busy_state.apply(finding(1, "open", t_s))
    busy_state.apply(finding(2, "open", t_s, "warning"))
    assert [f.finding for f in alarm.look(busy_state)] == [1, 2]
    assert alarm.look(busy_state) == []
    busy_state.apply(finding(1, "closed", t_s + 20))
    assert [(f.finding, f.status) for f in alarm.look(busy_state)] == [(1, "closed")]
    assert alarm.look(busy_state) == []
    assert [f.finding for f in alarm.findings(busy_state)] == [1, 2]


def test_findings_of_a_session_are_bounded() -> None:
    state = SessionState()
    for number in range(1, 1000):
        state.apply(finding(number, "open", number, "warning"))
        if number % 2:
            state.apply(finding(number, "closed", number, "warning"))
    assert (len(state.findings.open), len(state.findings.ended)) == (256, 256)
    copy = SessionState.restore(state.keyframe())
    assert copy.findings.all() == state.findings.all()


class Stamps:
    """A web server that is none; it keeps what it was sent."""

    def __init__(self, *answers: int | Exception) -> None:
        self.bodies: list[Any] = []
        self._answers = list(answers)
        self.asked = threading.Semaphore(0)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content))
        self.asked.release()
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer, headers={"location": "http://elsewhere/"})


def test_a_webhook_gets_alerts_and_nothing_else(busy_state: SessionState) -> None:
    server, complaints = Stamps(204, 204), []
    webhook = Webhook("http://hook/", complaints.append, httpx.MockTransport(server))
    alarm, t_s = Alarm(webhook=webhook), busy_state.t_ns // S
    busy_state.apply(finding(1, "open", t_s))
    busy_state.apply(finding(2, "open", t_s, "warning"))
    alarm.look(busy_state)
    busy_state.apply(finding(1, "closed", t_s + 20))
    alarm.look(busy_state)
    alarm.close()
    assert [body["status"] for body in server.bodies] == ["open", "closed"]
    assert server.bodies[0]["text"] == "number 1 is late"
    assert server.bodies[0]["model"] == "smollm2-135m-instruct"
    assert complaints == []


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [(302, "status 302"), (500, "status 500"), (httpx.ConnectError("no"), "ConnectError")],
)
def test_a_webhook_that_fails_is_one_line_and_no_redirect(
    answer: int | Exception, complaint: str
) -> None:
    server, complaints = Stamps(answer, 200), []
    webhook = Webhook("http://hook/", complaints.append, httpx.MockTransport(server))
    webhook.send(finding(1, "open", 5), "")
    webhook.send(finding(2, "open", 5), "")
    webhook.close()
    assert complaints == [f"alert webhook failed: {complaint}"]
    assert [body["text"] for body in server.bodies] == ["number 1 is late", "number 2 is late"]


def test_a_webhook_that_does_not_answer_holds_nobody_up() -> None:
    stuck, complaints = threading.Event(), []
    server = Stamps(*[200] * 200)

    def slow(request: httpx.Request) -> httpx.Response:
        response = server(request)
        stuck.wait(20)
        return response

    webhook = Webhook("http://hook/", complaints.append, httpx.MockTransport(slow))
    for number in range(200):
        webhook.send(finding(number, "open", 5), "")
    assert 100 < len(complaints) < 200 and "dropped" in complaints[0]
    stuck.set()
    webhook.close()


def test_a_viewer_s_own_objectives_replace_those_of_the_session(busy_state: SessionState) -> None:
    t_s = busy_state.t_ns // S
    busy_state.apply(finding(1, "open", t_s))
    busy_state.apply(finding(2, "open", t_s, "warning"))
    alarm = Alarm(parse_objectives("ttft_mean<1us"))
    told = [f.rule for s in range(6) for f in look_at(alarm, busy_state, t_s + s)]
    assert told == ["slo x", "slo ttft_mean<0.001ms"]
    levels = {(f.rule, f.level) for f in alarm.findings(busy_state)}
    assert levels == {("slo x", "warning"), ("slo ttft_mean<0.001ms", "alert")}
    assert [str(o) for o in alarm.objectives(busy_state)] == ["ttft_mean<0.001ms"]


def look_at(alarm: Alarm, state: SessionState, t_s: int) -> list[Finding]:
    state.advance(t_s * S)
    return alarm.look(state)


def test_a_replay_that_goes_back_begins_anew(busy_state: SessionState) -> None:
    alarm, t_s = Alarm(parse_objectives("ttft_mean<1us")), busy_state.t_ns // S
    earlier = busy_state.keyframe()
    assert any(look_at(alarm, busy_state, t_s + s) for s in range(6))
    again = SessionState.restore(earlier)
    assert alarm.look(again) == [] and alarm.findings(again) == []
    assert any(look_at(alarm, again, t_s + s) for s in range(6))


def test_a_finding_is_two_entries_of_the_journal(busy_state: SessionState) -> None:
    t_s = busy_state.t_ns // S
    findings = [finding(1, "closed", t_s, "warning"), finding(2, "open", t_s + 9)]
    entries = journal(busy_state, findings=findings)
    told = [(e.t_ns // S, e.level, e.text) for e in entries if e.source in ("finding", "alert")]
    assert told == [
        (t_s - 2, "warning", "number 1 is late"),
        (t_s, "info", "over after 2.0s: number 1 is late"),
        (t_s + 7, "error", "number 2 is late"),
    ]
    assert [e.t_ns for e in entries] == sorted(e.t_ns for e in entries)


def test_plain_lines_tell_of_findings(busy_state: SessionState) -> None:
    lines: list[str] = []
    narrator = Narrator(lines.append, "x", Alarm())
    narrator.tell(busy_state, Connection("connected"))
    busy_state.apply(finding(1, "open", busy_state.t_ns // S, text="late\x1b[31m"))
    narrator.tell(busy_state, Connection("connected"))
    assert "error alert: late" in lines[-1]
    assert "\x1b" not in lines[-1]


async def test_the_overview_shows_what_is_open_and_enter_leads_to_its_request(
    busy_source: Any, text_of: TextOf
) -> None:
    state = busy_source.state
    request = next(iter(state.requests.live))
    busy_source.feed(
        [
            finding(1, "open", state.t_ns // S, "warning", request=request, text="pages run out"),
            finding(2, "open", state.t_ns // S, text="too slow"),
        ]
    )
    app = LlmtopApp(busy_source)
    for size in ((80, 24), (120, 40)):
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            app.frame()
            await pilot.pause()
            lines = text_of(app).splitlines()
            at = next(i for i, line in enumerate(lines) if "─ Findings and events" in line)
            assert "too slow" in lines[at + 1], "alerts stand first"
            assert ("pages run out" in lines[at + 2]) == (size[1] == 40)
            app.screen.query_one("#overview-log").focus()
            await pilot.press("enter")
            await pilot.pause()
            assert app.model.detail and app.model.selected == request
        app = LlmtopApp(busy_source)


async def test_an_alert_rings_once_and_only_where_it_happens(
    busy_source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[int] = []
    monkeypatch.setattr(LlmtopApp, "bell", lambda self: rung.append(1))
    busy_source.feed([finding(1, "open", busy_source.state.t_ns // S)])
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(80, 24)):
        app.frame()
        app.frame()
    assert rung == [1]
    busy_source.mode = "REPLAY"
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(80, 24)):
        app.frame()
    assert rung == [1]


@pytest.mark.parametrize(
    ("recorded", "mode", "times"), [(False, "LIVE", 1), (True, "LIVE", 0), (False, "REPLAY", 0)]
)
async def test_an_alert_keeps_what_nobody_records(
    busy_source: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    recorded: bool,
    mode: str,
    times: int,
) -> None:
    kept: list[int] = []
    monkeypatch.setattr(busy_source, "keep", lambda: kept.append(1) or "kept")
    busy_source.session_file = tmp_path / "s.db" if recorded else None
    busy_source.mode = mode
    busy_source.feed([finding(1, "open", busy_source.state.t_ns // S)])
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(80, 24)):
        app.frame()
        app.frame()
    assert len(kept) == times


@pytest.mark.parametrize("width", [60, 80, 120, 160])
async def test_attainment_stands_beside_the_tabs(
    busy_source: Any, text_of: TextOf, width: int
) -> None:
    start = busy_source.state.session
    assert isinstance(start, SessionStart)
    slo = parse_objectives("ttft_p50<1s,itl_p50<1us,tok_s>1,good_pct>1")
    app = LlmtopApp(busy_source, alarm=Alarm(slo))
    async with app.run_test(size=(width, 40)) as pilot:
        await pilot.pause()
        app.frame()
        await pilot.pause()
        tabs = text_of(app).splitlines()[1]
    if width <= 80:
        assert "SLO 0.0% in 60 s" in tabs
    assert ("7 Compare" in tabs) == (width > 60), "else the keys of the pages that are not open"
    if width == 160:
        assert "ttft_p50<1000ms 100.0%" in tabs and "itl_p50<0.001ms 0.0%" in tabs
        assert "tok_s>1tok/s met" in tabs and "good_pct>1% missed" in tabs
