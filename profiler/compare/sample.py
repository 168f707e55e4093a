"""What one run gives for one quantity, kept by the units that are drawn again: requests or time.

A unit of the bootstrap is a request, never a token: the gaps of one request resemble each other,
and to draw them one by one would make every interval too narrow. Of more than 512 requests
neighbours share a unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from profiler.folds.quantiles import P99_NEEDS, Quantiles

MAX_UNITS: Final = 512
MIN_UNITS: Final = 8
# Resampled quantiles are exact up to so many different values; of more, each stands for 0.1 %.
GRID: Final = 1024
SHARES: Final = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
# A quantile with less than one value above it is the maximum under another name.
LEAST_VALUES: Final = {"mean": 1, "p50": 2, "p90": 10, "p95": 20, "p99": P99_NEEDS}

_CHUNK: Final = 1 << 20

Floats = NDArray[np.float64]
Units = NDArray[np.int16]


def units_of(count: int) -> Units:
    """The unit of each of `count` requests in order: its own, or one shared with neighbours."""
    units = np.arange(count) * min(count, MAX_UNITS) // max(1, count)
    return units.astype(np.int16)


@dataclass(frozen=True, slots=True)
class Values:
    """Many values by unit: `counts` (units, grid) says how many of each unit lie at each grid
    point, `grid` (grid,) rises. `exact` are the quantiles of the values themselves."""

    exact: Quantiles
    grid: Floats
    counts: Floats

    @classmethod
    def of(
        cls, values: NDArray[Any], units: Units, num_units: int, divisor: float = 1.0
    ) -> Values | None:
        """`values` over `divisor`; NaN and those of unit -1 are left out. None if nothing is left.

        An hour has ten million gaps between tokens, so that nothing here is as wide as a double.
        """
        known = units >= 0
        known &= ~np.isnan(values)
        if not known.all():
            values, units = values[known], units[known]
        if not len(values):
            return None
        ordered = np.sort(values)
        ends = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True]) + 1
        weights = np.diff(ends, prepend=0)
        exact = Quantiles.of_weighted((ordered[ends - 1] / divisor).tolist(), weights.tolist())
        assert exact is not None
        if len(ends) > GRID:
            tops = np.unique(ordered[np.arange(1, GRID + 1) * len(ordered) // GRID - 1])
            ends = np.searchsorted(ordered, tops, "right")
        sums = np.add.reduceat(ordered, np.r_[0, ends[:-1]], dtype=np.float64)
        grid = sums / np.diff(ends, prepend=0) / divisor
        return cls(exact, grid, _counted(values, units, ordered[ends - 1], num_units))

    @property
    def num_units(self) -> int:
        """Units that hold a value."""
        return int((self.counts.sum(axis=1) > 0).sum())

    def redrawn(self, draws: Floats) -> dict[str, Floats]:
        """Each statistic of every draw: `draws` (draws, units) says how often each unit is in.

        NaN where it drew no unit that has a value.
        """
        counts = draws @ self.counts
        reached = np.cumsum(counts, axis=1)
        totals = reached[:, -1]
        with np.errstate(invalid="ignore", divide="ignore"):
            found = {"mean": counts @ self.grid / totals}
        for name, share in SHARES.items():
            found[name] = self._quantile(reached, share * (totals - 1))
        return {name: np.where(totals > 0, values, np.nan) for name, values in found.items()}

    def _quantile(self, reached: Floats, rank: Floats) -> Floats:
        """Linear between neighbours, as `Quantiles` does."""
        below = np.floor(rank)
        last = len(self.grid) - 1
        low = self.grid[np.minimum((reached <= below[:, None]).sum(axis=1), last)]
        top = np.minimum(below + 1, reached[:, -1] - 1)
        high = self.grid[np.minimum((reached <= top[:, None]).sum(axis=1), last)]
        values: Floats = low + (high - low) * (rank - below)
        return values

    def at(self, shares: Floats) -> Floats:
        """The values below which those shares of all lie, by the grid."""
        total = self.counts.sum()
        reached = np.cumsum(self.counts.sum(axis=0))
        return self._quantile(
            np.broadcast_to(reached, (len(shares), len(reached))), shares * (total - 1)
        )


def _counted(values: NDArray[Any], units: Units, tops: NDArray[Any], num_units: int) -> Floats:
    """(units, tops): how many values of each unit lie up to each top and above the one before."""
    counts = np.zeros(num_units * len(tops), dtype=np.int64)
    for at in range(0, len(values), _CHUNK):
        cells = np.searchsorted(tops, values[at : at + _CHUNK])
        cells += units[at : at + _CHUNK].astype(np.int64) * len(tops)
        counts += np.bincount(cells, minlength=len(counts))
    return counts.reshape(num_units, len(tops)).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A sum by unit over another, (units,) each, times `scale`; `below` None makes it a count."""

    above: Floats
    below: Floats | None = None
    scale: float = 1.0

    @property
    def num_units(self) -> int:
        return len(self.above)

    @property
    def value(self) -> float | None:
        """None where there is nothing to divide by."""
        whole = 1.0 if self.below is None else float(self.below.sum())
        return self.scale * float(self.above.sum()) / whole if whole else None

    def redrawn(self, draws: Floats) -> Floats:
        """Of every draw; NaN where it has nothing to divide by."""
        above = self.scale * (draws @ self.above)
        if self.below is None:
            return above
        below = draws @ self.below
        return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
