"""The outcome of looking at one thing."""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal["ok", "warn", "fail"]


class Check(msgspec.Struct, frozen=True):
    """`detail` is what was found; `hint` says what to do about it, or is empty."""

    name: str
    status: Status
    detail: str
    hint: str = ""
