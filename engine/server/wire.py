"""The messages between the server process and the core process, as MessagePack arrays."""

from __future__ import annotations

import msgspec

from engine.config import EngineConfig
from engine.request import EngineRequest, TokenOutput
from profiler.events import AnyEvent, SessionStart


class CoreOrder(msgspec.Struct, frozen=True):
    """The first line of the core's standard input, in JSON. `endpoint` is a pyzmq address,
    `pulse_fd` an inherited pipe to beat into; without `observe` the core emits no events."""

    config: EngineConfig
    cache_dir: str
    endpoint: str
    pulse_fd: int
    observe: bool = True


class Add(msgspec.Struct, frozen=True, array_like=True, tag=True):
    request: EngineRequest


class Abort(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The client is gone: drop the request wherever it is."""

    request: int
    reason: str


class Finish(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The text is complete (a stop string): the request ended well."""

    request: int
    reason: str


class Capture(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Tell what the device runs in the next steps."""

    num_steps: int


class MeasureObserver(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Tell what being observed costs."""


class Shutdown(msgspec.Struct, frozen=True, array_like=True, tag=True):
    pass


Command = Add | Abort | Finish | Capture | MeasureObserver | Shutdown


class Located(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The model's files are at `path`: the tokenizer can be loaded while the weights are."""

    path: str
    name: str


class Ready(msgspec.Struct, frozen=True, array_like=True, tag=True):
    session: SessionStart


class Outputs(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What happened since the last message, at most one of these a step."""

    outputs: list[TokenOutput]
    events: list[AnyEvent]


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """`request` was not taken: the queue was full, or the field `param` of it is out of range."""

    request: int
    queue_full: bool
    message: str
    param: str | None = None


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The core is about to exit."""

    message: str
    hint: str = ""


Report = Located | Ready | Outputs | Refused | Failed
