"""The roofline as text: what lies on the roof is drawn on it, and nothing falls off the paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.app import LlmtopApp
from llmtop.widgets.roofplot import MARGIN, SLOPE, Dot, Roof, roofplot
from llmtop.widgets.rows import plain, width_of
from profiler.events import ModelShape, SessionStart, Step
from profiler.roofline import Point, busy_ns, point_of, work_of

ROOF = Roof(read=4e12, matmul=640e12)
TextOf = Callable[[Any], str]


def where(rows: list[Any], glyph: str) -> list[tuple[int, int]]:
    lines = [plain(row) for row in rows]
    return [(y, x) for y, line in enumerate(lines) for x, c in enumerate(line) if c == glyph]


def drawn(*points: tuple[float, float], width: int = 60, height: int = 16) -> list[Any]:
    return roofplot([Dot(Point(*point), "o", "decode") for point in points], ROOF, width, height)


@pytest.mark.parametrize("intensity", [1.0, 20.0, 150.0, 400.0, 2000.0])
def test_a_step_that_reaches_the_ceiling_lies_on_the_roof(intensity: float) -> None:
    bare = drawn((intensity, 1e12))
    rows = drawn((intensity, 1e12), (intensity, ROOF.rate_at(intensity)))
    (top,) = [dot for dot in where(rows, "o") if dot[0] == min(y for y, _ in where(rows, "o"))]
    assert top in where(bare, SLOPE) + where(bare, "─")


def test_half_of_it_lies_below_and_double_above() -> None:
    rows = drawn((10.0, 20e12), (10.0, 80e12), (10.0, 40e12))
    ys = [y for y, _ in where(rows, "o")]
    assert len(set(ys)) == 3
    assert len({x for _, x in where(rows, "o")}) == 1


def test_the_roof_bends_at_the_ridge_and_both_are_named() -> None:
    rows = drawn((1.0, 1e12))
    lines = [plain(row) for row in rows]
    bend = min(x for _, x in where(rows, "─"))
    assert all(x < bend for _, x in where(rows, SLOPE))
    assert lines[where(rows, "─")[0][0]].startswith("   640 T")
    assert abs(lines[-1].index("160") - bend) <= 1
    assert "FLOP a byte" in lines[-1]


@given(
    st.lists(st.tuples(st.floats(1e-3, 1e6), st.floats(1e3, 1e18)), max_size=20),
    st.integers(0, 90),
    st.integers(0, 30),
)
def test_every_row_has_its_width(
    points: list[tuple[float, float]], width: int, height: int
) -> None:
    rows = drawn(*points, width=width, height=height)
    assert rows == [] if width < MARGIN + 8 or height < 4 else len(rows) == height
    assert all(width_of(row) <= width for row in rows)
    if rows and points:
        assert where(rows, "o")


def test_a_step_of_known_work_has_its_place() -> None:
    shape = ModelShape(**dict.fromkeys((f.name for f in msgspec.structs.fields(ModelShape)), 1000))
    session = SessionStart(0, 0, "", "m", "d", 1, 8, 16, 64, 2000, 1, 1, 1, {}, shape=shape)
    step = Step(0, 5000, 1, 0, 4000, (), 0, 0, 0, 0, 0, computed_tokens=4, sampled_rows=2)
    work, point = work_of(session, step), point_of(session, step)
    assert work is not None and point is not None
    assert point.intensity == work.flops / work.mem_bytes
    assert point.flops_per_s == pytest.approx(work.flops / 4000e-9)
    assert busy_ns(step) == 4000
    assert point_of(session, msgspec.structs.replace(step, device_ns=0)) is None
    assert point_of(msgspec.structs.replace(session, shape=None), step) is None


async def test_without_ceilings_it_says_how_to_get_them(busy_source: Any, text_of: TextOf) -> None:
    state = busy_source.poll(0)
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        state.session = msgspec.structs.replace(state.session, read_bytes_per_s=None)
        await pilot.press("5")
        await pilot.pause()
        assert "doctor --measure" in text_of(app)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "Roofline" not in text_of(app)
