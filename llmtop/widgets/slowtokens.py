"""A request's slowest tokens, a line each, with what they were spent on."""

from __future__ import annotations

from textual import events
from textual.message import Message

from llmtop.columns import slowest_tokens, token_cursor
from llmtop.viewmodel import View
from llmtop.widgets.causes import explained_line
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row


class SlowTokens(Panel):
    """The first one is named by its time to first token elsewhere, and not among them. A click on
    one explains it, a second one opens its step."""

    about = "The tokens that took longest, and what their time was spent on."
    own_keys = ("next-slow", "previous-slow", "open: the step that made the token")

    class Picked(Message):
        """The line of token `token`, from 0, was clicked."""

        def __init__(self, token: int) -> None:
            super().__init__()
            self.token = token

    class PickedAgain(Message):
        """The line of the token that had been chosen was clicked."""

    def __init__(self, *, id: str, top: str = "┌┐", bottom: str = "") -> None:
        super().__init__(id=id, top=top, bottom=bottom)
        self._shown: list[int] = []

    def title(self, view: View) -> Row:
        return (("Slowest tokens", "title"),)

    def note(self, view: View) -> str:
        return "n N: next, previous"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        request = view.request
        tokens = [] if request is None else slowest_tokens(request, height)
        self._shown = []
        if request is None or not tokens:
            return [(("needs two tokens", "dim"),)]
        chosen = token_cursor(request, view.model.token)
        rows: list[Row] = []
        for at in tokens:
            explanation = view.explainer.token(request, at)
            if explanation is not None:
                mark = "▸" if at == chosen else " "
                head = (f"{mark}{at + 1:>6} ", "key" if at == chosen else "dim")
                room = width - len(head[0])
                rows.append((head, *explained_line(explanation, view.state, room)))
                self._shown.append(at)
        return rows

    def on_click(self, event: events.Click) -> None:
        line = event.y - self.body_offset()[1]
        if self._view is None or not 0 <= line < len(self._shown):
            return
        token = self._shown[line]
        again = token == self._view.model.token
        self.post_message(self.PickedAgain() if again else self.Picked(token))
