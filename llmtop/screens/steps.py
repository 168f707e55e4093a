"""The Steps tab: the newest engine steps as columns, and the chosen one taken apart."""

from __future__ import annotations

from typing import Final

from textual.app import ComposeResult
from textual.containers import Container

from llmtop.screens.page import Page
from llmtop.viewmodel import View
from llmtop.widgets.roofline import Roofline
from llmtop.widgets.stepcolumns import StepColumns, chosen_step
from llmtop.widgets.stepmembers import StepMembers, members
from llmtop.widgets.stepshares import StepShares

_SHARES_HEIGHT: Final = 6
_LEAST_COLUMNS: Final = 4
_LOW: Final = 30
_WIDE: Final = 110


class StepsPage(Page):
    """Left and right choose a step, up and down one of the requests in it."""

    DEFAULT_CSS = "#steps-below { width: 1fr; layout: horizontal; }"

    def compose(self) -> ComposeResult:
        yield StepColumns(id="steps-columns")
        yield StepShares(id="steps-shares", top="├┤")
        with Container(id="steps-below"):
            yield StepMembers(id="steps-members", top="├┤", bottom="└┘")
            yield Roofline(id="steps-roofline", top="├┤", bottom="└┘")

    def lay_out(self, width: int, height: int) -> None:
        low = height < _LOW
        below = max(3, height // 3)
        shares = max(4, min(_SHARES_HEIGHT, height - below - _LEAST_COLUMNS))
        self.query_one(StepShares).styles.height = shares
        self.query_one("#steps-below").styles.height = below if low else "1fr"
        self.query_one(Roofline).display = width >= _WIDE and not low
        for panel in self.panels():
            panel.compact = width < 100

    def slide(self, view: View, by: int) -> None:
        """To the step `by` places on; past the newest one, the newest is followed again."""
        steps, chosen = view.state.steps.ring, chosen_step(view)
        if chosen is None:
            return
        number = chosen.step + by
        newest = steps[-1].step
        view.model.step = None if number >= newest else max(steps[0].step, number)
        view.model.step_of_request = view.model.step_of_request and view.model.step is not None

    def move(self, view: View, by: int) -> None:
        step = chosen_step(view)
        rows = [] if step is None else [row.request for row in members(step)]
        if not rows:
            return
        selected = view.model.selected
        at = rows.index(selected) + by if selected in rows else (0 if by > 0 else len(rows) - 1)
        view.model.selected = rows[max(0, min(len(rows) - 1, at))]

    def open(self, view: View) -> None:
        """The selected request's own page, at the token that it got in this step."""
        step, request = chosen_step(view), view.request
        if step is None or all(row.request != view.model.selected for row in step.rows):
            self.move(view, 1)
            request = view.request
        if step is None or request is None:
            return
        view.model.step, view.model.step_of_request = step.step, False
        view.model.open_request()
        token_steps = request.token_steps
        if step.step in token_steps:
            view.model.token = token_steps.index(step.step)

    def on_step_columns_picked(self, message: StepColumns.Picked) -> None:
        view = self.query_one(StepColumns).painted_view
        if view is not None:
            view.model.step = message.step
            self.post_message(self.Chosen())

    def on_step_members_picked(self, message: StepMembers.Picked) -> None:
        view = self.query_one(StepMembers).painted_view
        if view is None:
            return
        view.model.selected = message.request
        if message.again:
            self.open(view)
        self.post_message(self.Chosen())

    def back(self, view: View) -> bool:
        return view.model.close_step()
