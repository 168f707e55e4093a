"""What start-up is doing: one line a phase, with a bar where the end is known."""

from __future__ import annotations

from typing import Final

from llmtop.format import grouped, percent, seconds, size
from llmtop.keys import Keymap
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.bar import bar
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import EMPTY, Row, joined_within
from profiler.folds.phases import PhaseSpan

_MEANINGS: Final = {
    "fetch": "fetching the model",
    "convert": "converting it once, for every later start",
    "measure": "measuring the device, once",
    "load": "loading the weights",
    "compile": "compiling kernels",
    "warmup": "warming up: first kernels",
    "profiler": "starting the profiler once",
    "graphs": "capturing the graphs of small steps",
    "ready": "ready",
    "drain": "finishing what is under way",
    "stopped": "stopped",
}
_BAR_WIDTH: Final = 30
_WHOLE_FROM: Final = 70
_PROSPECT: Final = {
    "load": "sends it a varied load, so that every panel moves",
    "prompt": "asks the model a question",
    "help": "lists all keys",
}


class Startup(Panel):
    about = "What the server has done since its start, and how long each part took."

    def title(self, view: View) -> Row:
        word = "Connecting" if view.connection.status == "connecting" else "Starting"
        return ((word, "title"),)

    def note(self, view: View) -> str:
        return view.address

    def body(self, view: View, width: int, height: int) -> list[Row]:
        spans = view.state.phases.spans
        if not spans:
            return [EMPTY, ((view.connection.detail or "waiting for the server", "text"),)]
        t_ns = view.state.t_ns
        rows: list[Row] = [EMPTY]
        rows += [phase_row(span, t_ns, span is spans[-1], width) for span in spans[-height:]]
        prospect = _prospect(view.model.keymap)
        return rows if len(rows) + len(prospect) > height else [*rows, *prospect]


def _prospect(keymap: Keymap) -> list[Row]:
    """What the viewer may do once the server is ready."""
    keys = [key for key in keymap.offered("live") if key.name in _PROSPECT]
    lines: list[Row] = [
        ((f"  {key.shown}", "key"), (f"  {_PROSPECT[key.name]}", "dim")) for key in keys
    ]
    return [EMPTY, (("Once it is ready", "dim"),), *lines]


def phase_row(span: PhaseSpan, t_ns: int, lasts: bool, width: int) -> Row:
    """What the phase is, how far it has come and how long it took so far."""
    meaning = _MEANINGS.get(span.name, clean_line(span.name))
    took_ns = (t_ns if lasts else span.t_last_ns) - span.t_ns
    head: Row = (
        ("▶ " if lasts else "✓ ", "key" if lasts else "good"),
        (meaning.ljust(42 if width >= _WHOLE_FROM else 36), "value" if lasts else "text"),
        (seconds(took_ns).rjust(7), "dim"),
    )
    parts: list[Row] = [head]
    if width >= _WHOLE_FROM:
        parts.append(_progress(span, lasts, width))
    elif lasts and span.total:
        parts.append(((percent(span.done, span.total), "value"),))
    return joined_within(parts, width)


def _progress(span: PhaseSpan, lasts: bool, width: int) -> Row:
    if not span.total:
        return ((_amount(span, span.done), "dim"),) if span.done else EMPTY
    done = size(span.done) if span.unit == "bytes" else grouped(span.done)
    text = f"{done} of {_amount(span, span.total)}"
    if not lasts or width < 100:
        return ((text, "dim"), (f"  {percent(span.done, span.total)}" if lasts else "", "value"))
    return (
        *bar(span.done, span.total, _BAR_WIDTH, "chart"),
        (f" {percent(span.done, span.total).rjust(4)}  ", "value"),
        (text, "dim"),
    )


def _amount(span: PhaseSpan, count: int) -> str:
    return (
        size(count) if span.unit == "bytes" else f"{grouped(count)} {clean_line(span.unit)}".strip()
    )
