"""What all events have in common."""

from __future__ import annotations

import msgspec


def _snake_case(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class Event(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag=_snake_case):
    t_ns: int
