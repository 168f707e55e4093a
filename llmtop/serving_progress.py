"""What a server without a dashboard says: plain lines, few of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from llmtop.sanitize import clean_line
from profiler.events import AnyEvent, Finding, Log, Phase

NS_PER_S: Final = 1_000_000_000
EVERY_NS: Final = 2 * NS_PER_S

# The ones that `PhaseSpan.name` can have and that take long enough to be worth a line.
WORDS: Final = {
    "fetch": "fetching the model",
    "convert": "converting the model",
    "measure": "measuring what the device can do, once",
    "load": "loading the weights",
    "compile": "compiling kernels",
    "warmup": "warming up",
    "profiler": "starting the profiler once",
    "graphs": "capturing the graphs of small steps",
    "drain": "finishing the requests that run",
    "stopped": "stopped",
}
LOUD: Final = ("warning", "error")
OWN: Final = ("server", "recorder")  # a dead core is told as the last word


class Progress:
    """Says each phase once when it begins, and how far it is every two seconds; and alerts."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._name = ""
        self._said_ns = 0

    def hear(self, event: AnyEvent) -> None:
        if isinstance(event, Phase) and event.name in WORDS:
            self._phase(event)
        elif isinstance(event, Log) and event.level in LOUD and event.source in OWN:
            self._say(f"{event.level}: {clean_line(event.text)}")
        elif isinstance(event, Finding) and event.level == "alert":
            word = "alert" if event.status == "open" else "alert is over"
            self._say(f"{word}: {clean_line(event.text)}")

    def _phase(self, event: Phase) -> None:
        is_new = event.name != self._name
        if not is_new and event.t_ns - self._said_ns < EVERY_NS:
            return
        self._name, self._said_ns = event.name, event.t_ns
        self._say(WORDS[event.name] + ("" if is_new and not event.done else _share(event)))


def _share(event: Phase) -> str:
    if not event.total:
        return f": {event.done} {event.unit}".rstrip()
    if event.unit == "bytes":
        return f": {event.done / 1e6:.0f} of {event.total / 1e6:.0f} MB"
    return f": {event.done} of {event.total} {event.unit}".rstrip()


def say_on_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def say_on_stdout(line: str) -> None:
    print(line, flush=True)


def say_nothing(line: str) -> None:
    pass
