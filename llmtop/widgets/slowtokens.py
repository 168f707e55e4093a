"""A request's slowest tokens, a line each, with what they were spent on."""

from __future__ import annotations

from llmtop.columns import slowest_tokens, token_cursor
from llmtop.viewmodel import View
from llmtop.widgets.causes import explained_line
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row


class SlowTokens(Panel):
    """The first one is named by its time to first token elsewhere, and not among them."""

    about = "The tokens that took longest, and what their time was spent on."
    own_keys = ("next-slow", "previous-slow", "open: the step that made the token")

    def title(self, view: View) -> Row:
        return (("Slowest tokens", "title"),)

    def note(self, view: View) -> str:
        return "n N: next, previous"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        request = view.request
        tokens = [] if request is None else slowest_tokens(request, height)
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
        return rows
