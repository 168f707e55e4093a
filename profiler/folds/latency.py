"""Latencies as the engine sees them, each over the last minute and each value kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from profiler.folds.clock import Clock
from profiler.folds.quantiles import Quantiles
from profiler.folds.request_view import RequestView
from profiler.folds.window import Window, WindowFrame

WINDOW_S: Final = 60
NAMES: Final = ("ttft", "itl", "tpot", "e2el", "queue", "prefill")


class LatencyFrame(msgspec.Struct, array_like=True):
    windows: list[WindowFrame]


class LatencyProfiler:
    """Each attribute is a `Window` over the newest 60 seconds, in ns.

    queue    per request, queued to the start of its first prefill step
    prefill  per request, from there to the end of the step that made its first token
    ttft     per request, queued to that same end
    itl      per token after the first: the gap between the ends of the two steps; where a step
             makes k tokens for a request, k values of gap / k
    tpot     per finished request of two tokens or more, (e2el - ttft) / (n - 1)
    e2el     per finished request, queued to the end of the step that made its last token

    A request that was aborted counts in none but those that it had passed before. A value belongs
    to the second in which its event reached the state.
    """

    window_s: Final = WINDOW_S

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ttft = Window(WINDOW_S)
        self.itl = Window(WINDOW_S)
        self.tpot = Window(WINDOW_S)
        self.e2el = Window(WINDOW_S)
        self.queue = Window(WINDOW_S)
        self.prefill = Window(WINDOW_S)

    @property
    def windows(self) -> dict[str, Window]:
        """By the names above."""
        return {name: getattr(self, name) for name in NAMES}

    def quantiles(self, name: str) -> Quantiles | None:
        """Of "ttft", "itl", "tpot", "e2el", "queue" or "prefill", in ns."""
        return self.windows[name].quantiles()

    def gaps(self, gaps: Mapping[int, int]) -> None:
        """Gaps before tokens, ns, and how many tokens had each."""
        second = self._clock.second
        for gap_ns, tokens in gaps.items():
            self.itl.add(second, gap_ns, tokens)

    def scheduled(self, view: RequestView) -> None:
        _add(self.queue, self._clock.second, view.queue_ns)

    def first_token(self, view: RequestView) -> None:
        _add(self.ttft, self._clock.second, view.ttft_ns)
        _add(self.prefill, self._clock.second, view.prefill_ns)

    def finished(self, view: RequestView) -> None:
        _add(self.tpot, self._clock.second, view.tpot_ns)
        _add(self.e2el, self._clock.second, view.e2el_ns)

    def trim(self) -> None:
        for window in self.windows.values():
            window.trim(self._clock.second)

    def freeze(self) -> LatencyFrame:
        return LatencyFrame([window.freeze() for window in self.windows.values()])

    def thaw(self, frame: LatencyFrame) -> None:
        """Raises: ValueError when the frame is not one of `freeze`."""
        for window, frozen in zip(self.windows.values(), frame.windows, strict=True):
            window.thaw(frozen)


def _add(window: Window, second: int, value_ns: float | None) -> None:
    if value_ns is not None:
        window.add(second, round(value_ns))
