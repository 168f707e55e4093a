"""Several servers side by side: states, totals by the right rule, what is found between them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from profiler.events import AnyEvent, Buckets, Finding, MetricsSample, TargetState
from profiler.findings.watch import Watch, derive
from profiler.foreign.fleet_snapshot import fleet_line, fleet_snapshot
from profiler.foreign.totals import Total, merged, summed_gauge, summed_rate, usage
from profiler.session.reader import SessionReader
from profiler.state import SessionState

S = 1_000_000_000
EDGES = (0.1, 0.2, 0.4)
Gauges = dict[str, float]


def up(target: int, second: float = 1, engine: str = "vLLM") -> TargetState:
    return TargetState(round(second * S), target, f"gpu-{target}:8000", "up", engine)


def down(target: int, second: float, why: str = "no connection") -> TargetState:
    return TargetState(round(second * S), target, f"gpu-{target}:8000", "down", "vLLM", "", why)


def reading(
    target: int,
    second: float,
    gauges: Gauges | None = None,
    edges: tuple[float, ...] | None = EDGES,
    model: str = "qwen",
) -> MetricsSample:
    """A hundred tokens times the target's number, and two first tokens, a second."""
    counters = {"generation_tokens": 100.0 * target * second}
    counts = tuple(float(second * i) for i in range(len(edges or ())))
    ttft = {} if edges is None else {"ttft": Buckets(edges, counts, 2.0 * second, 0.3 * second)}
    t_ns = round(second * S)
    return MetricsSample(t_ns, "vLLM", model, gauges or {}, counters, ttft, 7 * S + t_ns, target)


def folded(events: list[AnyEvent]) -> SessionState:
    state = SessionState()
    for seq, event in enumerate(events, 1):
        state.apply(event, seq)
    return state


def watched(*fleet: Gauges, seconds: int = 6) -> list[AnyEvent]:
    told: list[AnyEvent] = [up(n) for n in range(1, len(fleet) + 1)]
    for second in range(1, seconds):
        told += [reading(n, second + n / 100, gauges) for n, gauges in enumerate(fleet, 1)]
    return told


def test_counters_add_and_each_total_says_of_how_many() -> None:
    state = folded(watched({"running": 3, "waiting": 1}, {"running": 4}))
    fleet = state.fleet
    assert summed_gauge(fleet, "running") == Total(7, 2, 2)
    assert summed_gauge(fleet, "waiting") == Total(1, 1, 2), "who does not tell is not 0"
    assert summed_gauge(fleet, "kv_tokens") is None
    rate = summed_rate(fleet, lambda foreign: foreign.generated)
    assert rate is not None and rate.value == pytest.approx(300)


def test_usage_weighs_each_server_by_its_capacity() -> None:
    small, large = {"kv_usage": 0.9, "kv_tokens": 1000}, {"kv_usage": 0.1, "kv_tokens": 9000}
    found = usage(folded(watched(small, large)).fleet)
    assert isinstance(found, Total) and found.value == pytest.approx(0.18)
    partly = usage(folded(watched(small, {"kv_usage": 0.1}, large)).fleet)
    assert isinstance(partly, Total) and (partly.num_told, partly.num_live) == (2, 3)
    assert partly.value == pytest.approx(0.18)


def test_usage_is_not_shown_where_no_capacity_is_known_and_says_why() -> None:
    found = usage(folded(watched({"kv_usage": 0.9}, {"kv_usage": 0.1})).fleet)
    assert found == "capacity not told by gpu-1:8000 and 1 more"
    assert usage(folded(watched({}, {})).fleet) == "no server tells it"
    alone = usage(folded(watched({"kv_usage": 0.9}, {})).fleet)
    assert alone == Total(0.9, 1, 2)


def test_histograms_of_equal_edges_are_one_and_its_quantiles_are_right() -> None:
    found = merged(folded(watched({}, {})).fleet, "ttft")
    assert found.spread is not None and found.num_told == 2
    each = folded(watched({})).fleet.replicas[1].foreign.spread("ttft")
    assert each is not None
    assert found.spread.n == pytest.approx(2 * each.n)
    assert found.spread.quantile(0.5) == pytest.approx(each.quantile(0.5))
    assert found.spread.mean_s == pytest.approx(each.mean_s)


def test_histograms_of_other_edges_give_no_quantile_and_say_whose() -> None:
    told = watched({}, {})
    told += [reading(3, 6.5, edges=(0.1, 0.3))]
    told = [*told[:2], up(3), *told[2:], reading(3, 7, edges=(0.1, 0.3))]
    found = merged(folded(told).fleet, "ttft")
    assert found.spread is None
    assert found.why == "edges of gpu-3:8000 are not those of gpu-1:8000"


def test_no_traffic_yet_is_not_the_same_as_not_told() -> None:
    quiet = [up(1), *(reading(1, second) for second in (1.0, 1.0))]
    assert merged(folded([*quiet]).fleet, "ttft").why == "no request within 60 s"
    assert merged(folded([*quiet]).fleet, "itl").why == "no server tells it"


def test_who_is_stale_or_down_is_in_no_total() -> None:
    told = watched({"running": 3}, {"running": 4}, {"running": 5})
    state = folded([*told, down(3, 6)])
    assert summed_gauge(state.fleet, "running") == Total(7, 2, 2)
    assert state.fleet.replicas[3].told.detail == "no connection"
    state.apply(reading(1, 11, {"running": 1}), state.seq + 1)
    assert summed_gauge(state.fleet, "running") == Total(1, 1, 1), "the second has grown stale"
    assert [t.status for t in fleet_snapshot(state).targets] == ["up", "stale", "down"]


def test_how_long_it_stands_so_counts_from_the_first_word_of_it() -> None:
    state = folded([up(1), down(1, 5), down(1, 6), down(1, 7, "no answer in time")])
    assert state.fleet.replicas[1].since_ns == 5 * S
    assert state.fleet.replicas[1].told.detail == "no answer in time"
    state.apply(up(1, 8))
    assert state.fleet.replicas[1].since_ns == 8 * S


def test_readings_of_a_server_that_nobody_named_are_left_out() -> None:
    state = folded([up(1), reading(2, 1)])
    assert list(state.fleet.replicas) == [1] and state.foreign.last is None


def test_a_keyframe_and_a_file_hold_all_of_it(
    tmp_path: Path, record: Callable[[Path, list[AnyEvent]], Path]
) -> None:
    told = [*watched({"running": 3}, {"kv_usage": 0.5}, seconds=20), down(2, 21)]
    live = folded(told)
    reader = SessionReader(record(tmp_path / "fleet.db", told))
    replayed = reader.state_at(reader.end_ns)
    reader.close()
    for other in (SessionState.restore(live.keyframe()), replayed):
        assert fleet_snapshot(other) == fleet_snapshot(live)
        assert other.fleet.replicas[2].since_ns == 21 * S


def test_a_file_from_before_is_read_as_it_was(
    tmp_path: Path, record: Callable[[Path, list[AnyEvent]], Path]
) -> None:
    """Without the column that tells the server, and without the table of states."""
    alone = [msgspec.structs.replace(reading(0, second), target=0) for second in range(1, 5)]
    path = record(tmp_path / "old.db", [*alone])
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE metrics_sample DROP COLUMN target")
    connection.execute("DROP TABLE target_state")
    connection.execute("DELETE FROM keyframe")
    connection.commit()
    connection.close()
    reader = SessionReader(path)
    state = reader.state_at(reader.end_ns)
    reader.markers()
    reader.close()
    assert list(state.foreign.samples) == alone and not state.fleet.replicas


def test_a_script_gets_totals_with_their_absences() -> None:
    state = folded(watched({"running": 3, "kv_usage": 0.4}, {"running": 4, "kv_usage": 0.2}))
    found = msgspec.to_builtins(fleet_snapshot(state))
    assert found["totals"]["gauges"]["running"] == {"value": 7.0, "num_told": 2, "num_live": 2}
    assert found["totals"]["kv_usage"] is None
    assert "capacity not told" in found["totals"]["absent"]["kv_usage"]
    assert [t["name"] for t in found["targets"]] == ["gpu-1:8000", "gpu-2:8000"]
    assert found["targets"][0]["reading"]["gauges"]["running"] == 3
    assert found["wall_ns"] == 7 * S + state.t_ns
    line = fleet_line(state.fleet)
    assert "2 of 2 servers up" in line and "running 7" in line and "kv" not in line


# Findings


def second_by_second(events: list[AnyEvent]) -> Iterator[tuple[int, Finding]]:
    state, watch = SessionState(), Watch()
    for seq, event in enumerate(events, 1):
        state.apply(event, seq)
        yield from ((state.second, finding) for finding in watch.look(state))


def skewed(until: int, from_s: int = 3, to_s: int = 1000) -> list[AnyEvent]:
    told: list[AnyEvent] = [up(1), up(2), up(3)]
    for second in range(1, until):
        bad = from_s <= second < to_s
        for n in (1, 2, 3):
            waiting = 40.0 if bad and n == 2 else 2.0
            told.append(reading(n, second + n / 100, {"waiting": waiting, "kv_usage": 0.2}))
    return told


def test_a_replica_that_has_the_queue_is_named_once_and_let_go_of_once() -> None:
    told = list(second_by_second(skewed(60, 3, 30)))
    assert [(f.rule, f.status) for _, f in told] == [
        ("queue_imbalance", "open"),
        ("queue_imbalance", "closed"),
    ]
    assert 13 <= told[0][0] <= 15 and 40 <= told[1][0] <= 42
    assert told[0][1].text == "40 requests wait at gpu-2:8000, at the others 2 in the median"


def test_a_burst_of_a_few_seconds_is_no_imbalance() -> None:
    assert list(second_by_second(skewed(40, 3, 9))) == []


def test_servers_of_other_models_do_not_share_a_load() -> None:
    told = [up(1), up(2)]
    events: list[AnyEvent] = [*told]
    for second in range(1, 30):
        for n, waiting in ((1, 50.0), (2, 0.0)):
            events.append(reading(n, second, {"waiting": waiting}, model=f"model-{n}"))
    assert list(second_by_second(events)) == []


def test_a_cache_that_is_full_beside_others_that_are_not() -> None:
    gauges = ({"kv_usage": 0.9}, {"kv_usage": 0.2}, {"kv_usage": 0.3})
    (found,) = [f for _, f in second_by_second(watched(*gauges, seconds=20))]
    assert found.rule == "kv_imbalance"
    assert found.evidence == {"kv_usage": 0.9, "others": 0.25}


def test_a_server_that_is_down_is_told_after_three_seconds_and_when_it_is_back() -> None:
    events = [up(1), up(2), *(down(2, second) for second in range(2, 8)), up(2, 8)]
    later: list[AnyEvent] = [reading(1, second) for second in range(9, 15)]
    told = list(second_by_second([*events, *later]))
    assert [f.status for _, f in told] == ["open", "closed"]
    assert told[0][0] == 5 and told[1][0] <= 12
    assert told[0][1].text == "1 server cannot be read: gpu-2:8000 (no connection)"


def test_the_file_proves_what_was_found(
    tmp_path: Path, record: Callable[[Path, list[AnyEvent]], Path]
) -> None:
    events = skewed(20)
    events += [down(3, 20 + n) for n in range(6)]
    path = record(tmp_path / "fleet.db", events)
    reader = SessionReader(path)
    found = derive(reader.events())
    reader.close()
    assert {f.rule for f in found} == {"queue_imbalance", "replica_down"}
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    for finding in found:
        (row,) = connection.execute(finding.sql).fetchall()
        assert {key: row[key] for key in row.keys()} == pytest.approx(finding.evidence)
    connection.close()


def test_findings_go_on_from_a_state_that_was_kept() -> None:
    events = skewed(30)
    state = folded(events[:30])
    rest = list(enumerate(events[30:], 31))
    assert [f.rule for f in derive(rest, state=state)] == ["queue_imbalance"]
    assert derive(rest) == [], "without it nobody knows the servers"
