"""What is possible is drawn over what is, where there is room, and never in its place."""

from __future__ import annotations

from llmtop.widgets.chart import area, laid_under, marks
from llmtop.widgets.charts import FAR, _top


def text_of(row) -> str:
    return "".join(text for text, _ in row)


def test_marks_fill_only_what_the_area_leaves_blank():
    values, possible = [2.0, 2.0, 8.0, 8.0], [8.0, 8.0, 4.0, 4.0]
    drawn = area(values, 2, 2, 8.0)
    both = laid_under(drawn, marks(possible, 2, 2, 8.0, "dim"))
    assert [text_of(row) for row in both] == ["⠉⣿", "⣤⣿"]
    assert both[0] == (("⠉", "dim"), ("⣿", "chart"))
    assert both[1] == (("⣤⣿", "chart"),)


def test_a_gap_and_what_lies_beyond_the_axis_have_no_mark():
    rows = marks([None, None, 9.0, 9.0, 0.0, 0.0], 3, 2, 8.0, "dim")
    assert [text_of(row) for row in rows] == ["   ", "   "]


def test_the_axis_reaches_what_is_possible_while_the_values_can_be_read():
    assert _top([100.0], [None, 180.0]) >= 180
    assert _top([100.0], [100.0 * FAR * 2]) == _top([100.0], [])
