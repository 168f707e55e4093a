"""How long decoding requests wait for their tokens while long prompts come in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from orders import Order, StallOrder

SETTLED = 8  # tokens of each stream, after which all of them decode


class Stepper(Protocol):
    """An engine one step at a time."""

    vocab_size: int
    max_model_len: int

    def add(self, name: str, prompt: Sequence[int], num_output: int) -> None: ...

    def step(self) -> dict[str, int]:
        """How many tokens each request got in the step; empty where nothing came."""
        ...

    def drop(self, names: Sequence[str]) -> None:
        """Forgets these requests, finished ones too."""
        ...


class Streams:
    """The decoding requests: when each got its last token, and the gaps since counting began.

    A step that gives a request several tokens at once is one gap, as its reader waited once.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.gaps_s: list[float] = []
        self.num_tokens = dict.fromkeys(names, 0)
        self._last = dict.fromkeys(names, 0.0)
        self._counts = False

    @property
    def are_settled(self) -> bool:
        return min(self.num_tokens.values()) >= SETTLED

    def count(self) -> None:
        self._counts = True

    def take(self, tokens: dict[str, int], now: float) -> None:
        for name, count in tokens.items():
            if count and name in self._last:
                if self._counts:
                    self.gaps_s.append(now - self._last[name])
                self._last[name] = now
                self.num_tokens[name] += count


def measure(
    stepper: Stepper,
    order: StallOrder,
    num_output: int,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Gaps between tokens, in ms. `num_output` is what each stream asks for: more than it gets.

    Raises: ValueError if a stream ended before the measurement did.
    """
    prompts = Order([order.prompt_len] * order.num_streams, [], order.seed)
    names = [f"stream-{i}" for i in range(order.num_streams)]
    for name, prompt in zip(names, prompts.prompts(stepper.vocab_size), strict=True):
        stepper.add(name, prompt, num_output)
    streams = Streams(names)
    arrivals: list[str] = []
    try:
        while not streams.are_settled:
            streams.take(stepper.step(), clock())
        _run(stepper, order, streams, arrivals, clock)
    finally:
        stepper.drop([*names, *arrivals])
    if max(streams.num_tokens.values()) >= num_output:
        raise ValueError("a stream had all its tokens before the measurement ended")
    return {**_summary(streams.gaps_s), "num_arrivals": len(arrivals)}


def _run(
    stepper: Stepper,
    order: StallOrder,
    streams: Streams,
    arrivals: list[str],
    clock: Callable[[], float],
) -> None:
    """Steps for the order's seconds; a prompt that is due goes in between two steps."""
    num_arrivals = max(1, round(order.seconds * order.rate_per_s))
    lens = [order.arrival_len] * num_arrivals
    prompts = Order(lens, [], order.seed + 1).prompts(stepper.vocab_size)
    streams.count()
    begin = clock()
    while (passed := clock() - begin) < order.seconds:
        while len(arrivals) < num_arrivals and passed >= len(arrivals) / order.rate_per_s:
            arrivals.append(f"arrival-{len(arrivals)}")
            stepper.add(arrivals[-1], prompts[len(arrivals) - 1], 1)
        streams.take(stepper.step(), clock())


def _summary(gaps_s: list[float]) -> dict[str, Any]:
    ordered = sorted(gaps_s)
    at = {f"itl_p{p}_ms": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in (50, 99)}
    shown = {name: round(gap * 1e3, 3) for name, gap in at.items()}
    return {**shown, "itl_max_ms": round(ordered[-1] * 1e3, 3), "num_gaps": len(ordered)}
