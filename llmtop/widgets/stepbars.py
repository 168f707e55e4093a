"""The newest engine steps: a bar each for its time, and the newest of them in numbers."""

from __future__ import annotations

from typing import Final

from llmtop.format import NONE, grouped, milliseconds, ns_as_ms
from llmtop.viewmodel import View
from llmtop.widgets.chart import area, scale_of
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, joined, plain
from profiler.events import Step

_BARS_HEIGHT: Final = 10
# Bars move to the left by so many steps at a time: moving them with every step sends the whole
# chart anew in every frame, 98 KiB/s at 30 steps a second.
_SHIFT: Final = 32
_TABLE_FROM: Final = 5
_HEAD: Final = "     step     ms   host device decode prefill waiting   used cached   free"


class StepBars(Panel):
    """Newest at the right. A cell holds two steps; ▒ marks those of which one carried prefill."""

    def title(self, view: View) -> Row:
        last = view.state.steps.last
        number = "" if last is None else grouped(last.step)
        return (("Steps ", "title"), (number, "value"))

    def note(self, view: View) -> str:
        steps = view.state.steps.newest(2 * max(1, self.inner[0]))
        top = scale_of([duration_ms(step) for step in steps])
        return f"newest {len(steps)}, 0-{milliseconds(top)} ms, ▒ with prefill" if steps else ""

    def body(self, view: View, width: int, height: int) -> list[Row]:
        steps = view.state.steps.newest(2 * width)
        if not steps:
            return [(("no step yet", "dim"),)]
        room = height - 2
        bars = room if room < _BARS_HEIGHT + _TABLE_FROM else _BARS_HEIGHT
        rows = [step_facts(steps[-1]), *step_bars(steps, width, bars)]
        return (rows + step_table(steps, room - bars))[:height]


def duration_ms(step: Step) -> float:
    return (step.end_ns - step.t_ns) / 1e6


def step_facts(step: Step) -> Row:
    """The step in words: time, the host's and the device's part, and who was in it."""
    prefills = [row.prefill_tokens for row in step.rows if row.prefill_tokens]
    num_decodes = len(step.rows) - len(prefills)
    batch = f"{num_decodes} decode"
    if prefills:
        batch += f" + {len(prefills)} prefill of {grouped(sum(prefills))} tokens"
    device = NONE if step.device_ns is None else ns_as_ms(step.device_ns)
    parts: list[Row] = [
        ((milliseconds(duration_ms(step)), "value"), (" ms", "dim")),
        (("batch ", "dim"), (batch, "value")),
        (("host ", "dim"), (ns_as_ms(step.host_ns), "value"), (" ms", "dim")),
        (("device ", "dim"), (device, "value"), (" ms" if step.device_ns else "", "dim")),
    ]
    if step.graph:
        parts.append((("graph ", "dim"), (step.graph, "value")))
    return joined(parts)


def step_bars(steps: list[Step], width: int, height: int) -> list[Row]:
    """`height` rows of bars and below them a row that marks the steps with prefill."""
    if height < 1:
        return []
    values: list[float | None] = [duration_ms(step) for step in steps]
    rows = area(values + [None] * _gap(steps, width), width, height, scale_of(values))
    carried = _carried(steps, width)
    roles = ["prefill" if cell else "decode" for cell in carried]
    marks = "".join("▒" if cell else " " for cell in carried)
    colored = [tuple(zip(plain(row), roles, strict=True)) for row in rows]
    return [*colored, ((marks, "prefill"),)]


def _gap(steps: list[Step], width: int) -> int:
    """Places at the right that are left for the next steps."""
    return -steps[-1].step % _SHIFT if width > _SHIFT else 0


def _carried(steps: list[Step], width: int) -> list[bool]:
    """Whether one of the two steps of each cell carried prefill."""
    carried = [any(row.prefill_tokens for row in step.rows) for step in steps]
    carried += [False] * _gap(steps, width)
    carried = [False] * (2 * width - len(carried)) + carried[-2 * width :]
    return [left or right for left, right in zip(carried[::2], carried[1::2], strict=True)]


def step_table(steps: list[Step], height: int) -> list[Row]:
    """A head and the newest steps in numbers, newest first; nothing where there is no room."""
    if height < _TABLE_FROM - 1:
        return []
    rows: list[Row] = [((_HEAD, "dim"),)]
    rows += [((_table_line(step), "text"),) for step in reversed(steps[-(height - 1) :])]
    return rows


def _table_line(step: Step) -> str:
    prefill = sum(row.prefill_tokens for row in step.rows)
    num_decodes = sum(not row.prefill_tokens for row in step.rows)
    device = NONE if step.device_ns is None else ns_as_ms(step.device_ns)
    return (
        f"{grouped(step.step):>9}{milliseconds(duration_ms(step)):>7}{ns_as_ms(step.host_ns):>7}"
        f"{device:>7}{num_decodes:>7}{grouped(prefill):>8}{grouped(step.num_waiting):>8}"
        f"{grouped(step.pages_used):>7}{grouped(step.pages_cached):>7}{grouped(step.pages_free):>7}"
    )
