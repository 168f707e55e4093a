"""Two recordings against each other: what pairs up, what is refused, what became slower."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from profiler.compare.alignment import align
from profiler.compare.comparison import Comparison, compare
from profiler.compare.config import config_diff
from profiler.compare.run import Requests, Run, read_run
from profiler.errors import SessionFileError
from profiler.events import KvPacking, LayerFormat
from profiler.folds.slo import Slo
from profiler.metrics import METRICS
from profiler.session.reader import SessionReader

Record = Callable[..., Path]


@pytest.fixture(scope="module")
def run(base: Path) -> Run:
    return read_run(base)


@pytest.fixture(scope="module")
def slow(recording: Record) -> Run:
    """The same requests on an engine that takes half as long again for everything."""
    return read_run(recording(stretch=1.5))


def by_name(comparison: Comparison) -> dict[str, str]:
    return {row.name: row.verdict for row in comparison.metrics}


def taken(requests: Requests, keep: np.ndarray) -> Requests:
    """Requests `keep`, in that order."""
    gaps = np.split(requests.gaps_us, np.cumsum(requests.num_gaps)[:-1])
    columns = {
        name: getattr(requests, name)[keep]
        for name in Requests.__dataclass_fields__
        if name not in ("names", "gaps_us")
    }
    return Requests(
        names=tuple(requests.names[i] for i in keep),
        gaps_us=np.concatenate([gaps[i] for i in keep]),
        **columns,
    )


def test_a_run_is_what_the_state_made_of_it(base: Path, run: Run) -> None:
    reader = SessionReader(base)
    state = reader.state_at(reader.end_ns)
    requests = run.requests
    assert len(requests) == state.requests.num_finished + state.requests.num_aborted
    assert run.under_way == len(state.requests.live)
    for view in state.requests.done:
        i = int(np.flatnonzero(requests.numbers == view.request)[0])
        for name in ("ttft", "queue", "prefill"):
            stamp_ns = getattr(view, f"{name}_ns")
            expected = np.nan if stamp_ns is None else stamp_ns / 1e6
            assert requests.latency_ms(name)[i] == pytest.approx(expected, nan_ok=True)
        if requests.answered[i]:
            assert requests.latency_ms("e2el")[i] == pytest.approx(view.e2el_ns / 1e6)
            tpot_ns = view.tpot_ns
            expected = np.nan if tpot_ns is None else tpot_ns / 1e6
            assert requests.latency_ms("tpot")[i] == pytest.approx(expected, nan_ok=True)
        assert requests.num_gaps[i] == len(view.itl_ns)
    assert run.wall_ns == reader.wall_ns
    reader.close()


def test_a_run_begins_with_its_recording_and_not_once_the_model_is_ready(run: Run) -> None:
    sooner = replace(run, start_ns=run.start_ns - 8 * 10**9)
    assert run.wall_ns - compare(sooner, run, Slo()).a.wall_ns == 8 * 10**9


def test_a_run_against_itself_shows_no_difference(run: Run) -> None:
    comparison = compare(run, run, Slo())
    assert comparison.differences == [] and comparison.config == []
    assert comparison.pairs.count == len(run.requests) == comparison.pairs.same_length
    assert comparison.regressions == []
    assert set(by_name(comparison).values()) <= {"no difference shown", "too few"}
    assert by_name(comparison)["ttft_p50"] == "no difference shown"
    for row in comparison.metrics:
        assert row.change == 0 and row.a == row.b
        if row.drawn == "pairs" and row.low is not None:
            assert (row.low, row.high) == (0, 0)


def test_a_slower_engine_is_told_as_such(run: Run, slow: Run) -> None:
    comparison = compare(run, slow)
    assert comparison.pairs.by == "name" and comparison.differences == []
    told = by_name(comparison)
    assert {told[n] for n in ("ttft_p50", "itl_p50", "tpot_p95", "e2el_mean")} == {"worse"}
    row = next(row for row in comparison.metrics if row.name == "itl_p50")
    assert row.change_pct == pytest.approx(50, abs=5)
    assert row.low_pct < row.change_pct < row.high_pct
    assert by_name(compare(slow, run))["itl_p50"] == "better"


def test_regressions_are_the_worst_pairs_with_both_values(run: Run, slow: Run) -> None:
    comparison = compare(run, slow)
    worst = [r for r in comparison.regressions if r.latency == "e2el"]
    assert 0 < len(worst) <= 10
    growths = [pair.change_ms for pair in worst]
    assert growths == sorted(growths, reverse=True) and growths[-1] > 0
    first, second = run.requests, slow.requests
    alignment = align(first, second)
    growth = second.latency_ms("e2el")[alignment.b] - first.latency_ms("e2el")[alignment.a]
    assert growths[0] == pytest.approx(np.nanmax(growth))
    for pair in worst:
        i = int(np.flatnonzero(first.numbers == pair.request_a)[0])
        assert first.latency_ms("e2el")[i] == pair.a_ms and first.names[i] == pair.name_a


def test_requests_without_known_names_pair_by_shape_and_order(run: Run) -> None:
    rng = np.random.default_rng(0)
    others = replace(run.requests, names=tuple(f"x{i}" for i in range(len(run.requests))))
    # Sends that crossed on their way: neighbours change places.
    order = np.argsort(np.arange(len(others)) + rng.uniform(0, 3, len(others)))
    alignment = align(run.requests, taken(others, order))
    assert alignment.by == "order" and len(alignment) == len(others)
    back = order[alignment.b]
    assert (others.prompt_tokens[alignment.a] == others.prompt_tokens[back]).all()
    assert (np.sort(alignment.b) == np.arange(len(others))).all()


def test_a_shorter_run_of_the_same_load_is_compared_by_what_both_have(run: Run) -> None:
    short = replace(run, requests=taken(run.requests, np.arange(40)))
    comparison = compare(run, short)
    assert comparison.pairs.count == 40 and comparison.pairs.only_b == 0
    assert comparison.pairs.only_a == len(run.requests) - 40
    paired = [row for row in comparison.metrics if row.drawn == "pairs"]
    assert paired and all(row.change in (0, None) for row in paired)


def test_another_load_is_told_in_a_sentence(run: Run, recording: Record) -> None:
    longer = read_run(recording(prompt_tokens=(900, 2000), seed=3))
    (sentence,) = [s for s in compare(run, longer).differences if s.startswith("prompts")]
    assert "against" in sentence and "tokens" in sentence
    assert compare(run, longer).pairs.by == "none"
    crowd = read_run(recording(concurrency=40, seed=5, num_steps=600))
    assert any("at once" in s for s in compare(run, crowd).differences)


def test_another_seed_of_the_same_load_is_the_same_workload(run: Run, recording: Record) -> None:
    """Lengths are drawn anew, from the same distribution: comparable, but not pair by pair."""
    other = read_run(recording(seed=11))
    comparison = compare(run, other)
    assert comparison.differences == [] and comparison.pairs.by == "none"
    assert comparison.a.workload.shapes != comparison.b.workload.shapes
    assert {row.drawn for row in comparison.metrics} == {"requests", "time"}
    assert comparison.regressions == []


def test_few_requests_get_no_verdict(run: Run) -> None:
    few = replace(run, requests=taken(run.requests, np.arange(5)))
    comparison = compare(few, few)
    for row in comparison.metrics:
        if row.drawn == "pairs":
            assert row.verdict == "too few" and row.low is None
            assert row.too_few == 5, "not the number of tokens"


def test_p99_needs_a_hundred_values(run: Run) -> None:
    some = replace(run, requests=taken(run.requests, np.arange(60)))
    told = {row.name: row for row in compare(some, some).metrics}
    assert told["ttft_p99"].verdict == "too few" and told["ttft_p99"].a is None
    assert told["ttft_p95"].verdict == "no difference shown"
    assert told["itl_p99"].verdict == "no difference shown"


def test_goodput_is_there_if_objectives_are(run: Run) -> None:
    assert "good_pct" not in compare(run, run).values_a
    bound_ms = float(np.nanmedian(run.requests.latency_ms("ttft")))
    good = compare(run, run, Slo(bound_ms, None, None)).values_a["good_pct"]
    answered = run.requests.answered
    met = run.requests.latency_ms("ttft")[answered] <= bound_ms
    assert good == pytest.approx(100 * met.mean())


def test_every_row_is_a_metric_of_the_registry(run: Run, slow: Run) -> None:
    comparison = compare(run, slow, Slo())
    for row in comparison.metrics:
        metric = METRICS[row.name]
        assert (row.unit, row.better) == (metric.unit, metric.better)
        assert comparison.values_a.get(row.name) == row.a
    assert set(comparison.values_a) <= set(METRICS)


def test_distributions_rise_and_end_at_the_extremes(run: Run, slow: Run) -> None:
    for found in compare(run, slow).distributions:
        for points in (found.a, found.b):
            assert points == sorted(points) and len(points) == len(found.shares)
    ttft = next(d for d in compare(run, slow).distributions if d.latency == "ttft")
    known = run.requests.latency_ms("ttft")
    assert ttft.a[0] == pytest.approx(np.nanmin(known))
    assert ttft.a[-1] == pytest.approx(np.nanmax(known))


def test_settings_that_differ_are_listed_and_no_others(run: Run, recording: Record) -> None:
    other = read_run(recording(num_pages=2048, num_steps=60))
    changes = {change.name: (change.a, change.b) for change in compare(run, other).config}
    assert changes == {"num_pages": (4096, 2048)}


def test_a_packed_cache_is_told_by_what_was_asked_for(run: Run) -> None:
    layer = LayerFormat("int4", "int4", 4, 4)
    start = msgspec.structs.replace(
        run.start,
        packing=KvPacking("int4", "bfloat16", (layer,), 8, 16, 4, 1),
        config={**run.start.config, "kv_cache_dtype": "int4"},
    )
    changes = {c.name: (c.a, c.b) for c in config_diff(run, replace(run, start=start))}
    assert changes == {"kv_cache_dtype": (None, "int4")}


def test_a_comparison_survives_the_way_through_json(run: Run, slow: Run) -> None:
    comparison = compare(run, slow, Slo())
    again = msgspec.json.decode(msgspec.json.encode(comparison), type=Comparison)
    assert again == comparison


def test_a_session_in_which_nothing_ended_is_refused(recording: Record) -> None:
    with pytest.raises(SessionFileError, match="no request ended"):
        read_run(recording(num_steps=3))


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE itl SET gaps_us = x'010203' WHERE request = 5",
        "DROP TABLE itl",
        "ALTER TABLE step RENAME COLUMN new_tokens TO newer_tokens",
    ],
)
def test_damage_is_told_in_words(base: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "damaged.db"
    path.write_bytes(base.read_bytes())
    with sqlite3.connect(path) as db:
        db.execute(damage)
    db.close()
    with pytest.raises(SessionFileError, match=r"damaged\.db cannot be read"):
        read_run(path)
