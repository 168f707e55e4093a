"""The page stands alone, says what the report says, and runs nothing that a recording holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from profiler.events import (
    AnyEvent,
    Log,
    RequestAborted,
    RequestForwarded,
    RequestQueued,
    SessionStart,
)
from profiler.html import html_page
from profiler.plots import MAX_POINTS, Series, cumulative, nice_ceiling, plot, thinned
from profiler.report import report_of
from profiler.report_sections import sections
from profiler.session.reader import SessionReader

Record = Callable[[Path, list[AnyEvent]], Path]
MS = 1_000_000
HOSTILE = "<script>alert(1)</script>\"'&\x1b[2J\u202e"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, workload: Any, record: Record) -> Any:
    made = workload(7, concurrency=10, num_pages=260, odd_share=0.1, step_ns=40 * MS)
    events = list(made.events(300))
    last_ns = events[-1].t_ns
    odd: list[AnyEvent] = [
        RequestQueued(last_ns, 9_999, HOSTILE, 1, 1),
        Log(last_ns, "error", "core", HOSTILE),
    ]
    reader = SessionReader(record(tmp_path_factory.mktemp("page") / "s<b>.db", [*events, *odd]))
    yield reader
    reader.close()


class Tags(HTMLParser):
    """Counts what is open and collects text and attributes."""

    VOID = ("meta", "line", "circle", "polyline")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_holds_every_number_of_the_report(reader: SessionReader) -> None:
    report = report_of(reader)
    page = html_page(report, reader)
    tags = Tags(page)
    assert tags.open == []
    cells = [cell for section in sections(report) for row in section.rows for cell in row]
    assert all(cell in tags.text for cell in cells if HOSTILE not in cell)
    assert page.count("<svg") >= 8


def test_nothing_is_loaded_and_nothing_runs(reader: SessionReader) -> None:
    page = html_page(report_of(reader), reader)
    tags = Tags(page)
    assert "script" not in tags.names
    assert not tags.attributes & {"src", "href", "srcset", "action", "style"}
    assert not any(name.startswith("on") for name in tags.attributes)
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert "&lt;script&gt;alert(1)" in page
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", page)


def test_a_line_breaks_where_nothing_is_known_and_is_no_zero() -> None:
    drawing = plot([Series("a", [(0, 5.0), (1, 5.0), (2, None), (3, 5.0)])], str)
    (line,) = re.findall(r'<polyline class="s0" points="([^"]+)"', drawing)
    assert len(line.split()) == 2
    assert len(re.findall("<circle", drawing)) == 1
    assert plot([Series("a", [(0, None)])], str) == ""


def test_long_sessions_are_thinned_without_losing_a_peak() -> None:
    values = [1.0] * 3_600
    values[1234] = 99.0
    points, size = thinned(values, max)
    assert size == 10 and len(points) == 360
    assert max(y for _, y in points if y is not None) == 99.0
    points, size = thinned([None, *[4.0] * (MAX_POINTS - 1)])
    assert size == 1 and points[:2] == [(0.0, None), (1.0, 4.0)]


def test_a_cumulative_share_rises_to_all() -> None:
    points = cumulative([1.0, 2.0, 5.0], [1, 2, 1])
    assert points == [(1.0, 25.0), (2.0, 75.0), (5.0, 100.0)]
    many = cumulative([float(i) for i in range(10_000)], [1] * 10_000)
    assert len(many) <= MAX_POINTS + 1
    assert [y for _, y in many] == sorted(y for _, y in many if y is not None)
    assert many[-1] == (9_999.0, 100.0)


@pytest.mark.parametrize(("value", "top"), [(0, 1), (0.7, 0.8), (1, 1), (2050, 3000), (99, 100)])
def test_the_axis_ends_at_a_round_number(value: float, top: float) -> None:
    assert nice_ceiling(value) == pytest.approx(top)


def test_of_a_proxy_no_line_is_drawn_that_nobody_told(tmp_path: Path, record: Record) -> None:
    upstream = "http://127.0.0.1:9"
    events: list[AnyEvent] = [
        SessionStart(1, 1, "0", "m", "", 0, 0, 0, 0, 0, 0, 0, 0, upstream=upstream),
        RequestQueued(2, 1, "req-1", None, None),
        RequestForwarded(3, 1),
        RequestAborted(3_000 * MS, 1, "disconnect", 0),
    ]
    reader = SessionReader(record(tmp_path / "s.db", events))
    page = html_page(report_of(reader), reader)
    reader.close()
    captions = " ".join(re.findall("<figcaption>(.*?)</figcaption>", page))
    assert "running" in captions and "failed" in captions and "output" in captions
    for unknown in (
        "waiting",
        "KV pages",
        "preempted",
        "lost their pages",
        "prompt, computed",
        "step",
    ):
        assert unknown not in captions
