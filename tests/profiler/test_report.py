"""The report's numbers are the folds' numbers, over the whole session; what is not known is --."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from profiler.events import (
    AnyEvent,
    Phase,
    RequestFinished,
    RequestPreempted,
    RequestQueued,
    RequestScheduled,
    SessionStart,
    Step,
    StepRow,
)
from profiler.folds.quantiles import Quantiles
from profiler.folds.request_view import RequestView
from profiler.markdown import markdown, plain
from profiler.report import LATENCIES, SessionReport, report_of
from profiler.report_sections import NONE, sections
from profiler.session.reader import SessionReader
from profiler.state import SessionState, time_of

Record = Callable[[Path, list[AnyEvent]], Path]
MS = 1_000_000
S = 1_000 * MS


def reported(path: Path) -> SessionReport:
    reader = SessionReader(path)
    try:
        return report_of(reader)
    finally:
        reader.close()


@pytest.fixture(scope="module")
def events(workload: Any) -> list[AnyEvent]:
    made = workload(
        7, concurrency=10, num_pages=260, odd_share=0.1, step_ns=40 * MS, output_tokens=(8, 60)
    )
    return list(made.events(700))


@pytest.fixture(scope="module")
def report(
    tmp_path_factory: pytest.TempPathFactory, events: list[AnyEvent], record: Record
) -> SessionReport:
    return reported(record(tmp_path_factory.mktemp("report") / "s.db", events))


@pytest.fixture(scope="module")
def views(events: list[AnyEvent]) -> list[RequestView]:
    """Those that ended, all of them: fewer than the fold keeps."""
    state = SessionState()
    for event in events:
        state.apply(event)
    assert 20 < len(state.requests.done) < 256
    return list(state.requests.done)


def test_latencies_are_those_of_the_fold(report: SessionReport, views: list[RequestView]) -> None:
    finished = [view for view in views if view.finish_reason in ("stop", "length")]
    assert len(finished) < len(views)
    for name in ("ttft", "queue", "prefill"):
        check(report.latencies[name], [getattr(view, f"{name}_ns") for view in views])
    for name in ("tpot", "e2el"):
        check(report.latencies[name], [getattr(view, f"{name}_ns") for view in finished])
    check(report.latencies["itl"], [gap // 1000 * 1000 for view in views for gap in view.itl_ns])


def check(found: Quantiles | None, values_ns: list[float | None]) -> None:
    expected = Quantiles.of(sorted(v / 1e6 for v in values_ns if v is not None))
    assert found is not None and expected is not None
    assert found.n == expected.n
    for name in ("mean", "p50", "p90", "p95", "max"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name))
    assert (found.p99 is None) == (expected.n < 100)


def test_counts_add_up(report: SessionReport, events: list[AnyEvent]) -> None:
    work, flow, kv = report.work, report.flow, report.kv
    assert work.queued == sum(isinstance(event, RequestQueued) for event in events)
    assert work.queued == work.finished + work.failed + work.unfinished
    assert work.told == work.finished + work.failed
    assert work.preemptions > 0 and work.rejected > 0 and work.failed > 0
    steps = [event for event in events if isinstance(event, Step)]
    assert flow is not None and kv is not None
    assert flow.steps == len(steps)
    assert flow.new_tokens == sum(row.new_tokens for step in steps for row in step.rows)
    span_ns = steps[-1].end_ns - steps[0].t_ns
    assert flow.output_tokens_per_s == pytest.approx(flow.new_tokens / span_ns * 1e9)
    assert flow.busy_share == pytest.approx(sum(s.end_ns - s.t_ns for s in steps) / span_ns)
    assert kv.max_used == max(step.pages_used for step in steps)
    assert report.duration_s == pytest.approx((time_of(events[-1]) - events[0].t_ns) / 1e9)


def test_what_a_preempted_request_finds_again_is_not_computed_again(
    tmp_path: Path, record: Record
) -> None:
    """Of three preempted, one finds most of it again, one another's longer prefix, one never comes
    back."""
    events: list[AnyEvent] = [RequestQueued(i * MS, i, f"r{i}", 400, 9) for i in (1, 2, 3)]
    events += [RequestScheduled((10 + i) * MS, i, 0, False) for i in (1, 2, 3)]
    events += [
        RequestPreempted((20 + i) * MS, i, "pages", lost) for i, lost in ((1, 432), (2, 64), (3, 9))
    ]
    events += [RequestScheduled(30 * MS, 1, 368, True), RequestScheduled(31 * MS, 2, 96, True)]
    work = reported(record(tmp_path / "s.db", events)).work
    assert work.preemptions == 3
    assert work.lost_tokens == 432 + 64 + 9
    assert work.found_again_tokens == 368 + 64


def test_the_slowest_stand_first(report: SessionReport, views: list[RequestView]) -> None:
    slowest = sorted((v for v in views if v.ttft_ns), key=lambda v: -(v.ttft_ns or 0))[:5]
    assert [r.request for r in report.slowest_first] == [v.request for v in slowest]
    assert all(request.finished for request in report.slowest_end)


def test_overlapping_steps_are_not_counted_twice(tmp_path: Path, record: Record) -> None:
    steps: list[AnyEvent] = [
        Step(i * 10 * MS + S, i * 10 * MS + S + 15 * MS, i, 1, None, (), 0, 0, 0, 0, 1)
        for i in range(1, 101)
    ]
    flow = reported(record(tmp_path / "s.db", steps)).flow
    assert flow is not None
    assert flow.busy_share == pytest.approx(1.0)
    assert flow.mean_step_ms == pytest.approx(15.0)
    assert flow.device_share is None


def test_a_session_in_which_nothing_happened_shows_no_zero_for_what_it_lacks(
    tmp_path: Path, record: Record
) -> None:
    report = reported(record(tmp_path / "s.db", [Phase(S, "load"), Phase(2 * S, "ready")]))
    assert report.flow is None and report.kv is None
    assert all(found is None for found in report.latencies.values())
    (latency,) = (s for s in sections(report) if s.title.startswith("Latency"))
    assert len(latency.rows) == len(LATENCIES)
    assert all(row[1:] == ("0", *[NONE] * 6) for row in latency.rows)
    (work,) = (s for s in sections(report) if s.title == "Workload")
    facts = dict(work.rows)  # type: ignore[arg-type]
    assert facts["finished"] == "0" and facts["prompt tokens"] == NONE
    assert facts["most running"] == NONE


def test_markdown_is_whole_tables_whatever_a_client_calls_its_request(
    tmp_path: Path, record: Record
) -> None:
    name = "a|b`<img src=x>\x1b[2J\n| c |\u202e*_[x](y) @all"
    start = SessionStart(S, S, "0.1", "m", "cpu", 1, 10, 16, 100, 100, 64, 8, 64)
    told: list[AnyEvent] = [
        start,
        RequestQueued(S, 1, name, 10, 5),
        RequestScheduled(S + MS, 1, 0),
        Step(S + MS, S + 3 * MS, 1, 1, None, (StepRow(1, 10, 1),), 0, 1, 1, 0, 9),
        RequestFinished(S + 3 * MS, 1, "stop", 1),
    ]
    text = markdown(reported(record(tmp_path / "s.db", told)))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", text)
    unescaped = re.sub(r"\\.", "", text)
    assert "<" not in unescaped and "`" not in unescaped and "[" not in unescaped
    for table in re.findall(r"(?:^\|.*\n)+", unescaped, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_plain_text_reads_as_itself() -> None:
    assert plain("a_b|c") == r"a\_b\|c"
    assert plain("1 204.50 ms") == "1 204.50 ms"
