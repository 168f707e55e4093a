"""What a ring holds is compared as a recording of it would be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profiler.compare.comparison import compare
from profiler.compare.ring_run import ring_run
from profiler.compare.run import read_run
from profiler.errors import SessionFileError
from profiler.events import AnyEvent
from profiler.session.ring import Ring
from profiler.state import SessionState

RecordEvents = Callable[[Path, list[AnyEvent]], Path]


def ring_of(events: list[AnyEvent], **bounds: Any) -> Ring:
    ring, state = Ring(**bounds), SessionState()
    for seq, event in enumerate(events, 1):
        state.apply(event, seq)
        ring.append(event, state)
    return ring


@pytest.fixture(scope="module")
def events(workload: Any) -> list[AnyEvent]:
    return list(workload(concurrency=10, num_pages=4096, output_tokens=(8, 64)).events(1500))


def test_a_whole_session_in_a_ring_is_the_same_run_as_its_file(
    events: list[AnyEvent], record: RecordEvents, tmp_path: Path
) -> None:
    in_file, kept = read_run(record(tmp_path / "session.db", events)), ring_run(ring_of(events))
    for part in ("requests", "steps"):
        for field in fields(getattr(in_file, part)):
            ours, theirs = (getattr(getattr(run, part), field.name) for run in (kept, in_file))
            assert np.array_equal(
                ours, theirs, equal_nan=getattr(ours, "dtype", None) == np.float64
            ), field.name
    assert (kept.under_way, kept.start) == (in_file.under_way, in_file.start)
    assert kept.end_ns == in_file.end_ns


def test_requests_from_before_the_ring_are_left_out(events: list[AnyEvent]) -> None:
    ring = ring_of(events, keep_ns=1)
    run = ring_run(ring)
    assert run.start_ns == ring.start_ns > events[0].t_ns
    assert 0 < len(run.requests) < len(ring_run(ring_of(events)).requests)
    assert (run.requests.t_queued_ns >= ring.start_ns).all()


def test_a_ring_tells_nothing_of_its_machine_and_nothing_differs_for_that(
    events: list[AnyEvent], record: RecordEvents, tmp_path: Path
) -> None:
    in_file = read_run(record(tmp_path / "session.db", events))
    assert compare(in_file, ring_run(ring_of(events))).config == []


def test_without_a_request_that_ended_there_is_nothing_to_compare(events: list[AnyEvent]) -> None:
    for ring in (Ring(), ring_of(events[:12])):
        with pytest.raises(SessionFileError, match="in memory"):
            ring_run(ring)
