"""The chosen step in words, numbers and one bar: what its time was spent on."""

from __future__ import annotations

from llmtop.format import grouped
from llmtop.viewmodel import View
from llmtop.widgets.causes import cause_bar, cause_rows
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, flowed
from llmtop.widgets.stepbars import batch_of, step_facts
from llmtop.widgets.stepcolumns import chosen_step, missing
from profiler.events import Step
from profiler.explain.parts import merged
from profiler.explain.sentence import told_parts

_WAITS = {
    "seats": " for seats",
    "tokens": " for token budget",
    "pages": " for pages",
    "prefix": " for a shared prompt",
}


class StepShares(Panel):
    about = (
        "What the chosen step's time was spent on, in parts that sum to it, and who waited "
        "meanwhile."
    )
    own_keys = ("left: previous step", "right: next step", "back: the newest step")
    inside = "steps"

    def title(self, view: View) -> Row:
        step = chosen_step(view)
        number = "" if step is None else grouped(step.step)
        return (("Step ", "title"), (number, "value"))

    def note(self, view: View) -> str:
        back = view.model.keymap.shown("back")
        return "the newest" if view.model.step is None else f"{back}: the newest"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        step = chosen_step(view)
        if step is None:
            return [((missing(view), "dim"),)]
        parts = merged(view.explainer.step(step))
        words = cause_rows((), told_parts(parts), view.state, width)
        facts = step_facts(step, batch_of(step), width)
        rows = [facts, *words, *flowed(_house(step), width, "   ")]
        return [*rows[: height - 1], cause_bar(parts, width)]


def _house(step: Step) -> list[Row]:
    """Who waited, and where the pages were."""
    waits: Row = (
        (f"{grouped(step.num_waiting)} waiting{_WAITS.get(step.waits_for, '')}", "queued"),
    )
    pages: Row = (
        ("pages ", "dim"),
        (grouped(step.pages_used), "value"),
        (" used ", "dim"),
        (grouped(step.pages_cached), "value"),
        (" cached ", "dim"),
        (grouped(step.pages_free), "value"),
        (" free", "dim"),
    )
    return [waits, pages] if step.num_waiting else [pages]
