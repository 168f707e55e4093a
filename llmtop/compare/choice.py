"""What the viewer of a comparison chose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from profiler.compare.comparison import Comparison
from profiler.compare.distribution import Distribution
from profiler.compare.regressions import Regression

Side = Literal["A", "B"]


@dataclass(slots=True)
class Choice:
    """`latency` names the curves that are drawn, `cursor` the request that is selected among the
    worst, `side` the recording in which Enter opens it, `first` the first metric in sight.
    `here` is whether that side is the session on the screen, and the other cannot be opened."""

    comparison: Comparison
    latency: str = "e2el"
    cursor: int = 0
    side: Side = "B"
    first: int = 0
    here: bool = False

    @property
    def distribution(self) -> Distribution | None:
        return next((d for d in self._distributions if d.latency == self.latency), None)

    @property
    def _distributions(self) -> list[Distribution]:
        return self.comparison.distributions

    def next_latency(self, by: int) -> None:
        names = [found.latency for found in self._distributions]
        if names:
            at = names.index(self.latency) if self.latency in names else -by
            self.latency = names[(at + by) % len(names)]
            self.cursor = 0

    @property
    def ranked_by(self) -> str:
        """The latency by which the worst requests are chosen: a step or a gap belongs to none."""
        known = {pair.latency for pair in self.comparison.regressions}
        return self.latency if self.latency in known else "e2el"

    @property
    def worst(self) -> list[Regression]:
        return [pair for pair in self.comparison.regressions if pair.latency == self.ranked_by]

    @property
    def selected(self) -> Regression | None:
        worst = self.worst
        return worst[self.cursor] if self.cursor < len(worst) else None

    def move(self, by: int) -> None:
        self.cursor = max(0, min(len(self.worst) - 1, self.cursor + by))

    def scroll(self, by: int, rows: int, height: int) -> None:
        """Move `first` so that some of `rows` metrics stay in a window of `height`."""
        self.first = max(0, min(rows - height, self.first + by))

    def other_side(self) -> None:
        self.side = "A" if self.side == "B" else "B"
