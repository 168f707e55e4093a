"""What the two generating endpoints share of an answer: its frame, and its chunks as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from engine.output import SampleUpdate
from engine.server.generation import Usage

json_bytes: Final = msgspec.json.Encoder().encode


class Frame(NamedTuple):
    """The fields around the choices."""

    id: str
    created: int
    model: str


class Wishes(NamedTuple):
    """What the client wants beside the text."""

    include_usage: bool = False
    continuous_usage: bool = False
    logprobs: bool = False
    prompt_logprobs: bool = False
    token_ids: bool = False

    @property
    def text_only(self) -> bool:
        return not self.logprobs and not self.token_ids


class Shape(Protocol):
    """How one endpoint writes choices. Made for one answer; remembers what it has written."""

    object_name: str
    chunk_object_name: str

    def choice(self, index: int, sample: SampleUpdate) -> dict[str, Any]:
        """A choice of an answer in one body, from all that the sample got."""
        ...

    def chunk_choice(self, index: int, update: SampleUpdate) -> bytes:
        """A choice of a streamed chunk, as JSON."""
        ...


class Answer:
    """Writes one response, whole or chunk by chunk. The frame of the chunks is encoded once."""

    def __init__(self, frame: Frame, shape: Shape, wishes: Wishes) -> None:
        self._frame = frame
        self._shape = shape
        head = _named(frame, shape.chunk_object_name)
        self._head = b"data: " + json_bytes(head)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if wishes.include_usage else b"]}\n\n"

    def chunk(self, index: int, update: SampleUpdate, usage: Usage | None = None) -> bytes:
        """One event of the stream; with `usage`, what was used so far."""
        tail = self._tail if usage is None else _usage_tail(usage)
        return self._head + self._shape.chunk_choice(index, update) + tail

    def usage_chunk(self, usage: Usage) -> bytes:
        """The event without choices that tells the usage at the end."""
        return self._head + _usage_tail(usage)

    def body(self, samples: Sequence[SampleUpdate], usage: Usage) -> bytes:
        """The whole answer, from every sample as one update."""
        choices = [self._shape.choice(index, sample) for index, sample in enumerate(samples)]
        named = _named(self._frame, self._shape.object_name)
        return json_bytes({**named, "choices": choices, "usage": usage})


def _named(frame: Frame, object_name: str) -> dict[str, object]:
    return {
        "id": frame.id,
        "object": object_name,
        "created": frame.created,
        "model": frame.model,
    }


def _usage_tail(usage: Usage) -> bytes:
    return b'],"usage":' + json_bytes(usage) + b"}\n\n"
