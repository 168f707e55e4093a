"""Short names of several servers, which still tell them apart."""

from __future__ import annotations

from collections.abc import Mapping

from llmtop.sanitize import clean_line
from profiler.folds.fleet import Replica


def short_names(replicas: Mapping[int, Replica]) -> dict[int, str]:
    """By number: the port alone where all are on one host."""
    names = {number: clean_line(replica.told.name) for number, replica in replicas.items()}
    hosts = {name.rpartition(":")[0] for name in names.values()}
    if len(hosts) > 1 or "" in hosts:
        return names
    return {number: f":{name.rpartition(':')[2]}" for number, name in names.items()}


def cut(name: str, room: int) -> str:
    """Of a name that is too long its end: that is where ports are."""
    return name if len(name) <= room else f"…{name[-max(2, room - 1) :]}"
