"""A painted widget with a title line and, where there is room, sides."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.message import Message

from llmtop.viewmodel import View
from llmtop.widgets.painted import Painted
from llmtop.widgets.rows import EMPTY, Row, fit_row, rule, with_joints
from llmtop.widgets.wrapping import wrapped


def unseen(inside: str) -> str:
    """Why a server behind a proxy does not show its `inside`."""
    return f"not seen from outside: a proxy cannot tell the server's {inside}"


class Panel(Painted):
    """Subclasses give `title`, `note` and `body`. Neighbours share lines: `top` are the corner
    characters of the title line, `bottom` those of the last line, or "" for none.

    `compact` panels have a title line and no sides. `joints` are the columns at which a line from
    above meets the title line.

    The help begins with `about` the panel that has the focus: what it shows and how to read it; and
    with its `own_keys`, each the name of an action, and behind a colon what that does here.

    `inside` is what the panel is about that a server shows only of itself: seen through a proxy,
    the panel says so instead.

    `wheel` is a method of the page and how far a notch of the wheel goes: "" does nothing.
    """

    can_focus = True
    about: ClassVar[str]
    own_keys: ClassVar[tuple[str, ...]] = ()
    inside: ClassVar[str] = ""
    wheel: ClassVar[tuple[str, int]] = ("", 0)

    class Wheeled(Message):
        """The wheel was turned over a panel: what is called of its page, and by how much."""

        def __init__(self, action: str, by: int) -> None:
            super().__init__()
            self.action = action
            self.by = by

    def __init__(self, *, id: str, top: str = "┌┐", bottom: str = "") -> None:
        super().__init__(id=id)
        self.top = top
        self.bottom = bottom
        self.compact = False
        self.joints: tuple[int, ...] = ()

    def title(self, view: View) -> Row:
        raise NotImplementedError

    def note(self, view: View) -> str:
        """A few words at the right end of the title line."""
        return ""

    def body(self, view: View, width: int, height: int) -> list[Row]:
        raise NotImplementedError

    @property
    def inner(self) -> tuple[int, int]:
        """Width and height of the body; 0 of a panel that is not shown."""
        width, height = self.size
        if self.compact:
            return max(0, width - 2), max(0, height - 1)
        return max(0, width - 4), max(0, height - 1 - bool(self.bottom))

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        inner_width, inner_height = self.inner
        body = self._body(view, max(1, inner_width), max(0, inner_height))[: max(0, inner_height)]
        body += [EMPTY] * (inner_height - len(body))
        if self.compact:
            head = rule(self._marked(view), width, "─", "─", self.note(view))
            return [head, *(((" ", "text"), *row) for row in body)]
        head = rule(self._marked(view), width, self.top[0], self.top[1], self.note(view))
        out = [with_joints(head, self.joints)]
        out += [(("│ ", "frame"), *fit_row(row, inner_width), (" │", "frame")) for row in body]
        if self.bottom:
            out.append(rule((), width, self.bottom[0], self.bottom[1]))
        return out

    def _body(self, view: View, width: int, height: int) -> list[Row]:
        if self.inside and view.state.upstream:
            return [((line, "dim"),) for line in wrapped(unseen(self.inside), width)]
        return self.body(view, width, height)

    def _marked(self, view: View) -> Row:
        title = self.title(view)
        return (("▸", "key"), *title) if self.has_focus and title else title

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self.repaint()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.turn_wheel(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.turn_wheel(-1)

    def turn_wheel(self, notches: int) -> None:
        action, by = self.wheel
        if action:
            self.post_message(self.Wheeled(action, by * notches))

    def body_offset(self) -> tuple[int, int]:
        """Column and line at which the body begins."""
        return (1, 1) if self.compact else (2, 1)
