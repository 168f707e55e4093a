"""The line at the bottom where a filter or a time is typed."""

from __future__ import annotations

from collections.abc import Callable

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Input, Static

# What is typed -> "" or what is wrong with it.
Attempt = Callable[[str], str]


class CommandLine(Vertical):
    """Asks one question at a time. Esc leaves things as they were before it. What is wrong stands
    over the rows above: beside what is typed it has no room, and rows that come and go with each
    key would move the page."""

    DEFAULT_CSS = """
    CommandLine { height: 1; display: none; }
    CommandLine > Horizontal { height: 1; }
    CommandLine > Horizontal > Static { width: auto; padding: 0 1; }
    CommandLine Input { width: 1fr; border: none; height: 1; padding: 0; background: $surface; }
    CommandLine Input:focus { border: none; }
    CommandLine > #wrong {
        overlay: screen; offset-y: -100%;
        width: 100%; height: auto; padding: 0 1; background: $surface; display: none;
    }
    """

    class Closed(Message):
        """The question was answered, or Esc took it back."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._label = Static("", markup=False)
        self._input = Input(max_length=500)
        self._error = Static("", id="wrong", markup=False)
        self._attempt: Attempt = lambda text: ""
        self._live = False
        self._before = ""

    def compose(self) -> ComposeResult:
        yield self._error
        yield Horizontal(self._label, self._input)

    def ask(self, label: str, text: str, hint: str, attempt: Attempt, live: bool) -> None:
        """Begin a question. With `live` each keystroke is attempted, else only Enter is."""
        self._attempt, self._live, self._before = attempt, live, text
        self._label.update(Text(label, "bold"))
        self._input.placeholder = hint
        self._input.value = text
        self._input.cursor_position = len(text)
        self._complain("")
        self.display = True
        self._input.focus()

    def _complain(self, error: str) -> None:
        self._error.update(Text(error, "red"))
        self._error.display = bool(error)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.display and self._live:
            self._complain(self._attempt(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        error = self._attempt(event.value)
        self._complain(error)
        if not error:
            self._close()

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape":
            event.stop()
            event.prevent_default()
            if self._live:
                self._attempt(self._before)
            self._close()

    def _close(self) -> None:
        self.display = False
        self.post_message(self.Closed())
