"""A session whose pages are packed: folded, recorded, replayed, reported, all the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from profiler.events import AnyEvent, KvPacking, LayerFormat, PageDelta, PageKeyframe, Step
from profiler.markdown import markdown
from profiler.prometheus import render
from profiler.report import report_of
from profiler.session.reader import SessionReader
from profiler.snapshot import snapshot
from profiler.state import SessionState

Record = Callable[[Path, list[AnyEvent]], Path]
WIDE_PAGE_BYTES = 4 * 917_504
PACKING = KvPacking(
    "int4", "bfloat16", (LayerFormat("int4", "int4", 4, 4),) * 28, WIDE_PAGE_BYTES // 2,
    WIDE_PAGE_BYTES, 40, 1,
)  # fmt: skip


@pytest.fixture(scope="module")
def events(workload: Any) -> list[AnyEvent]:
    made = workload(3, concurrency=12, num_pages=120, odd_share=0.2, packing=PACKING)
    return list(made.events(900))


@pytest.fixture(scope="module")
def state(events: list[AnyEvent]) -> SessionState:
    state = SessionState()
    for event in events:
        state.apply(event)
    return state


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, events: list[AnyEvent], record: Record) -> Any:
    reader = SessionReader(record(tmp_path_factory.mktemp("packed") / "s.db", events))
    yield reader
    reader.close()


def test_forms_cannot_drift(events: list[AnyEvent]) -> None:
    """Every step says how many pages are wide; a page keyframe must find nothing to mend."""
    state, keyframes = SessionState(), 0
    for event in events:
        seen = state.pages.version
        state.apply(event)
        if isinstance(event, Step):
            assert state.pages.forms.wide == event.pages_wide
        elif isinstance(event, PageKeyframe) and seen > 1:
            assert state.pages.version == seen
            keyframes += 1
    assert keyframes and state.pages.evictions and state.requests.num_preemptions


def test_a_reader_who_lost_a_delta_is_right_again(events: list[AnyEvent]) -> None:
    lost = next(i for i, e in enumerate(events) if i > 300 and isinstance(e, PageDelta))
    last = max(i for i, e in enumerate(events) if isinstance(e, PageKeyframe))
    assert last > lost
    whole, torn = SessionState(), SessionState()
    for i, event in enumerate(events[: last + 1]):
        whole.apply(event)
        if i != lost:
            torn.apply(event)
    assert torn.pages.forms.flags == whole.pages.forms.flags


def test_the_recording_tells_the_same(
    reader: SessionReader, events: list[AnyEvent], state: SessionState
) -> None:
    assert [event for _, event in reader.events()] == events
    replayed = reader.state_at(reader.end_ns)
    assert replayed.session is not None and replayed.session.packing == PACKING
    assert snapshot(replayed) == snapshot(state)
    assert replayed.pages.forms.flags == state.pages.forms.flags
    assert SessionState.restore(state.keyframe()).keyframe() == state.keyframe()


def test_the_rate_is_what_the_newest_seconds_packed(
    state: SessionState, events: list[AnyEvent]
) -> None:
    first = state.second - state.throughput.token_window_s + 1
    newest = [e for e in events if isinstance(e, Step) and e.end_ns // 1_000_000_000 >= first]
    packed = sum(step.packed_pages for step in newest)
    span_s = (state.t_ns - first * 1_000_000_000) / 1e9
    assert packed and state.throughput.packed_per_s == pytest.approx(packed / span_s)


def test_the_snapshot_and_the_metrics_count_the_same(state: SessionState) -> None:
    kv, pages = snapshot(state).kv, state.pages
    assert kv is not None and kv.format == "int4" and kv.wide_page_bytes == WIDE_PAGE_BYTES
    held = pages.held_pages * kv.page_bytes + (kv.pages_hot + kv.pages_sink) * WIDE_PAGE_BYTES
    elements = pages.held_pages * PACKING.page_elements
    assert kv.effective_bits == pytest.approx(8 * held / elements)
    text = render(state).decode()
    found = {
        (s.name, s.labels.get("form", "")): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }
    assert found["llmtop_kv_page_forms", "hot"] == kv.pages_hot
    assert found["llmtop_kv_page_forms", "sink"] == kv.pages_sink
    assert found["llmtop_kv_page_forms", "packed"] == kv.pages_packed
    assert found["llmtop_kv_effective_bits", ""] == pytest.approx(kv.effective_bits)
    assert found["llmtop_kv_pages_packed_total", ""] == state.totals.packed_pages > 0
    assert 'cache_dtype="int4"' in text
    whole = 120 * kv.page_bytes + 40 * WIDE_PAGE_BYTES
    assert f'kv_cache_memory_bytes="{whole}"' in text


def test_the_report_names_the_format_and_what_was_packed(
    reader: SessionReader, events: list[AnyEvent]
) -> None:
    kv = report_of(reader).kv
    steps = [event for event in events if isinstance(event, Step)]
    assert kv is not None and (kv.format, kv.num_wide_pages) == ("int4", 40)
    assert kv.packed_pages == sum(step.packed_pages for step in steps)
    assert kv.max_wide == max(step.pages_wide for step in steps)
    text = markdown(report_of(reader))
    assert "format of full pages | int4" in text and "most wide pages" in text
