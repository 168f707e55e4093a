"""The newest engine steps: a bar each for its time, and the newest of them in numbers."""

from __future__ import annotations

from itertools import islice
from typing import Final, NamedTuple

from llmtop.format import NONE, grouped, milliseconds, ns_as_ms
from llmtop.viewmodel import View
from llmtop.widgets.chart import area, scale_of
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, joined_within, plain
from profiler.events import Step

_BARS_HEIGHT: Final = 10
# Bars move to the left by so many steps at a time: moving them with every step sends the whole
# chart anew in every frame, 98 KiB/s at 30 steps a second.
_SHIFT: Final = 32
_TABLE_FROM: Final = 5
_TIME_WIDTH: Final = 16  # of the step's time, and the word before its batch
_HEAD: Final = tuple("step ms host device decode prefill waiting used cached free".split())
_COLUMNS: Final = (9, 7, 7, 7, 7, 8, 8, 7, 7, 7)


class Batch(NamedTuple):
    """What a step's rows add up to."""

    prefills: int
    prefill_tokens: int
    decodes: int


class Batches:
    """Adds the rows of a step up once, not in each frame that shows it: hundreds of steps are on
    the screen, of hundreds of rows each."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], Batch] = {}

    def of(self, steps: list[Step]) -> list[Batch]:
        """One for each step; only these are remembered."""
        known = self._known
        self._known = {
            (step.step, step.t_ns): known.get((step.step, step.t_ns)) or batch_of(step)
            for step in steps
        }
        return [self._known[step.step, step.t_ns] for step in steps]


def batch_of(step: Step) -> Batch:
    prefills = [row.prefill_tokens for row in step.rows if row.prefill_tokens]
    return Batch(len(prefills), sum(prefills), len(step.rows) - len(prefills))


class StepBars(Panel):
    """Newest at the right. A cell holds two steps; ▒ marks those of which one carried prefill."""

    about = (
        "How long the newest engine steps took, two in a cell. ▒ marks those that carried prefill."
    )
    inside = "steps"

    def __init__(self, *, id: str, top: str = "┌┐", bottom: str = "") -> None:
        super().__init__(id=id, top=top, bottom=bottom)
        self._batches = Batches()

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
        batches = self._batches.of(steps)
        facts = step_facts(steps[-1], batches[-1], width)
        rows = [facts, *step_bars(steps, batches, width, bars)]
        return (rows + step_table(steps, batches, width, room - bars))[:height]


def duration_ms(step: Step) -> float:
    return (step.end_ns - step.t_ns) / 1e6


def step_facts(step: Step, batch: Batch, width: int) -> Row:
    """The step in words: time, the host's and the device's part, and who was in it; as much of it
    as `width` holds."""
    words = f"{batch.decodes} decode"
    if batch.prefills:
        words += f" + {batch.prefills} prefill"
        tokens = f" of {grouped(batch.prefill_tokens)} tokens"
        words += tokens if len(words + tokens) < width - _TIME_WIDTH else ""
    device = NONE if step.device_ns is None else ns_as_ms(step.device_ns)
    parts: list[Row] = [
        ((milliseconds(duration_ms(step)), "value"), (" ms", "dim")),
        (("batch ", "dim"), (words, "value")),
        (("host ", "dim"), (ns_as_ms(step.host_ns), "value"), (" ms", "dim")),
        (("device ", "dim"), (device, "value"), (" ms" if step.device_ns else "", "dim")),
    ]
    if step.device_gap_ns is not None:
        gap = f"{step.device_gap_ns / 1000:.0f}"
        parts.append((("idle before ", "dim"), (gap, "value"), (" us", "dim")))
    if step.graph:
        parts.append((("graph ", "dim"), (step.graph, "value")))
    return joined_within(parts, width)


def step_bars(steps: list[Step], batches: list[Batch], width: int, height: int) -> list[Row]:
    """`height` rows of bars and below them a row that marks the steps with prefill."""
    if height < 1:
        return []
    values: list[float | None] = [duration_ms(step) for step in steps]
    gap = _gap(steps, width)
    rows = area(values + [None] * gap, width, height, scale_of(values))
    carried = _carried(batches, gap, width)
    roles = ["prefill" if cell else "decode" for cell in carried]
    marks = "".join("▒" if cell else " " for cell in carried)
    colored = [tuple(zip(plain(row), roles, strict=True)) for row in rows]
    return [*colored, ((marks, "prefill"),)]


def _gap(steps: list[Step], width: int) -> int:
    """Places at the right that are left for the next steps."""
    return -steps[-1].step % _SHIFT if width > _SHIFT else 0


def _carried(batches: list[Batch], gap: int, width: int) -> list[bool]:
    """Whether one of the two steps of each cell carried prefill."""
    carried = [batch.prefills > 0 for batch in batches] + [False] * gap
    carried = [False] * (2 * width - len(carried)) + carried[-2 * width :]
    return [left or right for left, right in zip(carried[::2], carried[1::2], strict=True)]


def step_table(steps: list[Step], batches: list[Batch], width: int, height: int) -> list[Row]:
    """A head and the newest steps in numbers, newest first; nothing where there is no room. The
    last columns give way first."""
    if height < _TABLE_FROM - 1:
        return []
    count = next(n for n in range(len(_COLUMNS), 0, -1) if sum(_COLUMNS[:n]) <= max(width, 9))
    newest = zip(reversed(steps), reversed(batches), strict=True)
    lines = [_HEAD, *(_numbers(*both) for both in islice(newest, height - 1))]
    texts = ["".join(map(str.rjust, line[:count], _COLUMNS)) for line in lines]
    return [((text, "text" if i else "dim"),) for i, text in enumerate(texts)]


def _numbers(step: Step, batch: Batch) -> tuple[str, ...]:
    return (
        grouped(step.step),
        milliseconds(duration_ms(step)),
        ns_as_ms(step.host_ns),
        ns_as_ms(step.device_ns),
        str(batch.decodes),
        grouped(batch.prefill_tokens),
        grouped(step.num_waiting),
        grouped(step.pages_used),
        grouped(step.pages_cached),
        grouped(step.pages_free),
    )
