"""The report's numbers are the folds' numbers, over the whole session; what is not known is --."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from profiler.compare.run import read_run
from profiler.compare.slices import Slices
from profiler.events import (
    AnyEvent,
    Phase,
    RequestAnswered,
    RequestFinished,
    RequestFirstToken,
    RequestForwarded,
    RequestPreempted,
    RequestQueued,
    RequestScheduled,
    SessionStart,
    Step,
    StepRow,
    TokenArrival,
    TokensReceived,
)
from profiler.folds.quantiles import Quantiles
from profiler.folds.request_view import RequestView
from profiler.markdown import markdown, plain
from profiler.objectives import parse_objectives, request_bounds
from profiler.report import LATENCIES, SessionReport, report_of
from profiler.report_sections import NONE, sections
from profiler.session.reader import SessionReader
from profiler.session.summary import session_values
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


def test_a_gate_is_shown_the_numbers_of_the_report(
    tmp_path: Path, events: list[AnyEvent], record: Record
) -> None:
    """Also where the recording broke off: requests that had not ended are in neither."""
    path = record(tmp_path / "s.db", events)
    report, values = reported(path), session_values(path)
    assert report.work.unfinished > 0 and report.flow is not None and report.kv is not None
    for name in LATENCIES:
        found = report.latencies[name]
        assert found is not None and values[f"{name}_p50"] == found.p50
    assert values["tok_s"] == report.flow.output_tokens_per_s
    assert values["cached_pct"] == pytest.approx(100 * (report.work.cached_share or 0))
    run = read_run(path)
    kv_used = Slices(run).kv_used()
    assert kv_used is not None and kv_used.value == pytest.approx(values["kv_used_pct"], rel=0.02)


def test_a_gate_on_good_requests_holds_them_to_the_objectives_that_are_given(
    tmp_path: Path, events: list[AnyEvent], views: list[RequestView], record: Record
) -> None:
    path = record(tmp_path / "s.db", events)
    finished = [view for view in views if view.finish_reason in ("stop", "length")]
    for text in ("ttft_p50<150ms", "itl_p99<45ms,e2el_p95<2s", "tpot_p50<1ms", "tok_s>1"):
        objectives = parse_objectives(text)
        good = sum(not request_bounds(objectives).failures(view) for view in finished)
        found = session_values(path, objectives)["good_pct"]
        assert found == pytest.approx(100 * good / len(finished)), text
    recorded = session_values(path)["good_pct"]
    assert recorded == session_values(path, ())["good_pct"]


def test_through_a_proxy_what_came_is_reported_and_what_only_an_engine_tells_is_not(
    tmp_path: Path, record: Record
) -> None:
    begin = SessionStart(
        S, S, "0", "m", "", 0, 0, 0, 0, 0, 4096, 0, 0, upstream="http://127.0.0.1:9"
    )
    tokens = tuple(TokenArrival(1, t_ns, 1) for t_ns in (3 * S, 4 * S))
    told: list[AnyEvent] = [
        begin,
        RequestQueued(2 * S, 1, "req-1", None, None),
        RequestForwarded(2 * S, 1),
        RequestFirstToken(3 * S, 1),
        TokensReceived(4 * S, tokens),
        RequestAnswered(4 * S, 1, 200, 9, 3 * S, 100, 25, 2, 2),
        RequestFinished(4 * S, 1, "stop", 2),
    ]
    path = record(tmp_path / "s.db", told)
    report = reported(path)
    assert report.work.cached_share == 0.25 and report.work.preemptions is None
    found = markdown(report)
    assert "Latency, as the proxy saw it" in found and "end of the step" not in found
    assert "| output | 1.0 tok/s |" in found and "Over 2.0 s" not in found
    assert "| 1 req-1 | 100 | 25 | 2 | -- | 1 000.00 | 1 000.00 | 2 000.00 | -- | stop |" in found
    values = session_values(path)
    assert (values["tok_s"], values["req_s"], values["cached_pct"]) == (1.0, 0.5, 25)
    unknown = ("prompt_tok_s", "preemptions", "kv_used_pct", "queue_p50")
    assert all(values.get(name) is None for name in unknown)


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
