"""The requests in the chosen step: who was prefilled, who decoded, who got a token."""

from __future__ import annotations

from textual import events
from textual.message import Message

from llmtop.format import grouped
from llmtop.viewmodel import View
from llmtop.widgets.causes import NAME_WIDTH, request_name
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, fit
from llmtop.widgets.stepcolumns import chosen_step, missing
from profiler.events import Step, StepRow

_HEAD = f"  {'id'.ljust(NAME_WIDTH)}  did      prompt tokens  tokens out"


def members(step: Step) -> list[StepRow]:
    """The step's rows, the longest prefill first, then by request."""
    return sorted(step.rows, key=lambda row: (-row.prefill_tokens, row.request))


class StepMembers(Panel):
    about = "The requests that were computed in the chosen step, the longest prefill first."
    own_keys = ("down", "up", "open: the request, at the token of this step")
    wheel = ("move", 1)

    class Picked(Message):
        """The viewer pressed on a request's line; `again` if it was the selected one."""

        def __init__(self, request: int, again: bool) -> None:
            super().__init__()
            self.request = request
            self.again = again

    inside = "steps"

    def title(self, view: View) -> Row:
        step = chosen_step(view)
        count = "" if step is None else f" {len(step.rows)}"
        return (("In it", "title"), (count, "value"))

    def note(self, view: View) -> str:
        return f"↑ ↓ choose, {view.model.keymap.shown('open')}: the request"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        step = chosen_step(view)
        if step is None:
            return [((missing(view), "dim"),)]
        shown = _shown(step, view.model.selected, height - 1)
        return [((_HEAD, "dim"),), *(_line(row, view) for row in shown)]

    def on_click(self, event: events.Click) -> None:
        step = None if self._view is None else chosen_step(self._view)
        if self._view is None or step is None:
            return
        selected = self._view.model.selected
        shown = _shown(step, selected, self.inner[1] - 1)
        at = event.y - self.body_offset()[1] - 1
        if 0 <= at < len(shown):
            self.post_message(self.Picked(shown[at].request, shown[at].request == selected))


def _shown(step: Step, selected: int | None, height: int) -> list[StepRow]:
    """As many as there is room for, the selected one among them."""
    rows = members(step)
    at = next((i for i, row in enumerate(rows) if row.request == selected), 0)
    first = max(0, min(at - height // 2, len(rows) - height))
    return rows[first : first + max(0, height)]


def _line(row: StepRow, view: View) -> Row:
    prefilling = row.prefill_tokens > 0
    chosen = row.request == view.model.selected
    text = "value" if chosen else "text"
    return (
        ("▸ " if chosen else "  ", "key"),
        (fit(request_name(view.state, row.request), NAME_WIDTH), text),
        ("  prefill " if prefilling else "  decode  ", "prefill" if prefilling else "decode"),
        (f"{grouped(row.prefill_tokens) if prefilling else '':>12}", text),
        (f"{row.new_tokens or '':>12}", text),
    )
