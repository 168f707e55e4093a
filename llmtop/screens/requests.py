"""The Requests tab: every request as a row, or one of them alone."""

from __future__ import annotations

from typing import Final

from textual import on
from textual.app import ComposeResult

from llmtop.columns import slowest_tokens, token_cursor
from llmtop.screens.page import Page
from llmtop.screens.request_detail import RequestDetail
from llmtop.viewmodel import View
from llmtop.widgets.requesttable import RequestTable
from llmtop.widgets.slowtokens import SlowTokens
from llmtop.widgets.tokentimes import TokenTimes

# As many as `n` walks through.
NUM_SLOWEST: Final = 20


class RequestsPage(Page):
    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._table = RequestTable(id="requests-table", top="┌┐", bottom="└┘")
        self._detail = RequestDetail(id="request-detail")
        self._detail.display = False

    def compose(self) -> ComposeResult:
        yield self._table
        yield self._detail

    def show(self, view: View) -> None:
        if self._detail.display != view.model.detail:
            self.maximise(None)
            self._detail.display = view.model.detail
            self._table.display = not view.model.detail
        super().show(view)

    def move(self, view: View, by: int) -> None:
        view.model.move(view.state, by)

    def slide(self, view: View, by: int) -> None:
        request = view.request
        if view.model.detail and request is not None and request.token_steps:
            at = token_cursor(request, view.model.token) + by
            view.model.token = max(0, min(len(request.token_steps) - 1, at))

    def next(self, view: View, by: int) -> None:
        request = view.request
        tokens = [] if request is None else slowest_tokens(request, NUM_SLOWEST)
        if view.model.detail and request is not None and tokens:
            at = token_cursor(request, view.model.token)
            place = tokens.index(at) + by if at in tokens else 0
            view.model.token = tokens[place % len(tokens)]

    def open(self, view: View) -> None:
        """The selected request, and from there the step of its chosen token."""
        model, request = view.model, view.request
        if not model.detail:
            if request is None:
                model.move(view.state, 1)
            model.open_request()
        elif request is not None and request.token_steps and not request.is_foreign:
            model.open_step(request.token_steps[token_cursor(request, model.token)])

    @on(TokenTimes.Picked)
    @on(SlowTokens.Picked)
    def _picked(self, event: TokenTimes.Picked | SlowTokens.Picked) -> None:
        view = self._detail.query_one(TokenTimes).painted_view
        if view is not None:
            view.model.token = event.token
            self.post_message(self.Chosen())

    @on(SlowTokens.PickedAgain)
    def _picked_again(self) -> None:
        view = self._detail.query_one(SlowTokens).painted_view
        if view is not None:
            self.open(view)
            self.post_message(self.Chosen())

    def back(self, view: View) -> bool:
        return view.model.close_request()
