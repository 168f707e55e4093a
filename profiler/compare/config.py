"""In which settings two recordings differ."""

from __future__ import annotations

from typing import Final

import msgspec

from profiler.compare.run import Run

Setting = str | int | float | bool | None

_FACTS: Final = ("python", "platform", "cpus")
# What is no single value follows from the model, and from the formats that were asked for.
_LEFT_OUT: Final = ("t_ns", "wall_ns", "config", "shape", "packing")


class Change(msgspec.Struct, frozen=True):
    """None is "not set" or "not known to that recording"."""

    name: str
    a: Setting
    b: Setting


def config_diff(a: Run, b: Run) -> list[Change]:
    """What differs, in the order of A's own settings. Of the machine nothing where one of them does
    not know its own."""
    machine = bool(a.facts and b.facts)
    first, second = _settings(a, machine), _settings(b, machine)
    return [
        Change(name, first.get(name), second.get(name))
        for name in first | second
        if first.get(name) != second.get(name)
    ]


def _settings(run: Run, machine: bool) -> dict[str, Setting]:
    """Session header, engine settings and machine; a setting wins over a header of its name."""
    header: dict[str, Setting] = {}
    if run.start is not None:
        header = {
            name: value
            for name, value in msgspec.structs.asdict(run.start).items()
            if name not in _LEFT_OUT and (run.tells_steps or value)
        }
        header |= run.start.config
    return header | {name: run.facts[name] for name in _FACTS if machine and name in run.facts}
