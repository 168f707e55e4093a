"""A change and its interval are in one unit, whichever it is."""

from __future__ import annotations

from typing import Any

import msgspec

from llmtop.compare.words import bounds, change
from profiler.compare.metric_row import MetricRow

ROW = MetricRow(
    "failed_pct", "%", "lower", 5.4, 36.4, 31.0, 574.0, 17.3, 44.6, None, None, "worse",
    37, 55, "requests", 37,
)  # fmt: skip


def told(**changed: Any) -> tuple[str, str]:
    row = msgspec.structs.replace(ROW, **changed)
    return change(row), bounds(row)


def test_a_percentage_changes_by_points_where_a_draw_of_it_was_nothing() -> None:
    assert told() == ("+31.0 pp", "[+17.3, +44.6] pp")
    assert told(low_pct=120.0, high_pct=900.0) == ("+574.0 %", "[+120.0, +900.0] %")
    assert told(low=None, high=None) == ("+574.0 %", "--")


def test_a_count_changes_by_its_number_where_there_was_none() -> None:
    assert told(unit="", change=3.0, change_pct=None, low=1.0, high=5.0) == ("+3", "[+1, +5]")
