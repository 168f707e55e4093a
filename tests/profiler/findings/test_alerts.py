"""Objectives: judged over their window, proved by the file, and calm at the edge."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from profiler.events import AnyEvent, Finding
from profiler.findings.watch import derive
from profiler.objectives import parse_objectives
from profiler.session.reader import SessionReader
from profiler.session.summary import session_values

Prove = Callable[[list[AnyEvent]], list[Finding]]


def serve(session: Any, seconds: int, ttft_ms: float, per_s: int = 4) -> None:
    """`per_s` requests a second whose first token takes so long and whose second 12 ms."""
    for _ in range(seconds * per_s):
        number = session.arrive(prompt=8, max_tokens=2, start=False)
        session.t_ns += round(ttft_ms * 250_000)
        session.start(number)
        session.step(ttft_ms * 0.75)
        session.first_tokens(number)
        session.step(12, leaving=1)
        session.finish(number)
        session.t_ns += max(0, round(1e9 / per_s - ttft_ms * 1e6) - 12_000_000)


@pytest.mark.parametrize(
    "objective",
    ["ttft_p99<150ms", "ttft_p50<150ms", "ttft_mean<50ms", "prefill_p95<100ms", "queue_max<40ms",
     "e2el_p90<150ms", "tpot_p50<10ms", "itl_p50<10ms", "tok_s>100", "req_s>5"],
)  # fmt: skip
def test_a_missed_objective_alerts_and_the_file_proves_it(
    scene: Any, proved: Prove, objective: str
) -> None:
    session = scene(slo=objective)
    serve(session, 40, ttft_ms=200)
    (alert,) = proved(session.events)
    assert (alert.level, alert.status) == ("alert", "open")
    assert alert.evidence and objective.split("<")[0].split(">")[0] in alert.text


def test_met_objectives_do_not_alert(scene: Any, proved: Prove) -> None:
    session = scene(slo="ttft_p99<500ms,itl_p99<40ms,tok_s>1")
    serve(session, 40, ttft_ms=200)
    assert proved(session.events) == []


def test_p99_of_too_few_requests_does_not_alert(scene: Any, proved: Prove) -> None:
    session = scene(slo="ttft_p99<150ms")
    serve(session, 20, ttft_ms=200)
    assert proved(session.events) == []


def test_an_alert_closes_once_the_objective_is_met_for_a_while(scene: Any, proved: Prove) -> None:
    session = scene(slo="ttft_p50<150ms")
    serve(session, 20, ttft_ms=200)
    serve(session, 40, ttft_ms=60)
    opened, closed = proved(session.events)
    assert (opened.status, closed.status) == ("open", "closed")


def test_a_value_that_crosses_its_bound_again_and_again_is_one_alert(scene: Any) -> None:
    session = scene(slo="tok_s>7")
    for _ in range(12):
        serve(session, 5, ttft_ms=60, per_s=3)
        serve(session, 5, ttft_ms=60, per_s=4)
    told = derive(enumerate(session.events, 1))
    assert [finding.status for finding in told] == ["open"]


def test_other_objectives_may_be_given_than_the_session_names(scene: Any) -> None:
    session = scene(slo="ttft_p50<150ms")
    serve(session, 20, ttft_ms=200)
    events = list(enumerate(session.events, 1))
    assert [f.rule for f in derive(events)] == ["slo ttft_p50<150ms"]
    assert [f.rule for f in derive(events, parse_objectives("e2el_p50<100"))] == [
        "slo e2el_p50<100ms"
    ]
    assert derive(events, ()) == []


@pytest.mark.parametrize(
    ("recorded", "given", "good_pct"),
    [
        ("ttft_p50<250ms", "ttft_p50<100ms,good_pct>99", 0),
        ("ttft_p50<150ms", "ttft_p50<300ms,good_pct<50", 100),
    ],
)
def test_good_requests_are_those_within_the_objectives_that_are_given(
    scene: Any, record: Any, tmp_path: Path, recorded: str, given: str, good_pct: float
) -> None:
    """As gates count them: the alert was about those that the session itself calls good."""
    session = scene(slo=recorded)
    serve(session, 70, ttft_ms=200)
    path, objectives = record(tmp_path / "s.db", session.events), parse_objectives(given)
    (alert,) = (f for f in derive(enumerate(session.events, 1), objectives) if "good" in f.rule)
    assert f"good_pct is {good_pct} %" in alert.text
    with closing(SessionReader(path)) as reader:
        ((good, finished),) = reader.query(alert.sql)
    assert alert.evidence == {"good": good, "finished": finished}
    assert 100 * good / finished == session_values(path, objectives)["good_pct"] == good_pct


def test_a_session_says_its_objectives_to_whoever_reads_it(scene: Any) -> None:
    from profiler.state import SessionState

    session = scene(slo="ttft_p99<150ms,itl_p95<30ms")
    serve(session, 3, ttft_ms=200)
    state = SessionState()
    for seq, event in enumerate(session.events, 1):
        state.apply(event, seq)
    assert state.objectives == parse_objectives("ttft_p99<150ms,itl_p95<30ms")
    assert state.throughput.slo.ttft_ms == 150 and state.throughput.slo.tpot_ms == 30
    assert state.throughput.good == 0 and state.throughput.missed == {"ttft": 12}
    copy = SessionState.restore(state.keyframe())
    assert copy.objectives == state.objectives and copy.throughput.slo == state.throughput.slo


def test_objectives_that_cannot_be_read_hold_nobody(scene: Any) -> None:
    session = scene(slo="ttft_p98<nonsense")
    serve(session, 10, ttft_ms=200)
    assert derive(enumerate(session.events, 1)) == []
