"""What the process of an engine needs of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from stalls import Stepper


@dataclass
class Call:
    """One generate call: the ids of each output, and what the engine says of itself."""

    outputs: Sequence[Sequence[int]]
    more: dict[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """`stepper` is None where the engine takes whole batches alone."""

    vocab_size: int
    stepper: Stepper | None

    def facts(self) -> dict[str, Any]:
        """What the numbers depend on: versions, settings as they came out."""
        ...

    def generate(self, prompts: list[list[int]], output_lens: Sequence[int]) -> Call:
        """Exactly as many tokens of each as asked; returns when all are on the host."""
        ...
