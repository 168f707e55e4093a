"""Choosing one option for each layer, the least loss within a number of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import NamedTuple

import numpy as np


class Option(NamedTuple):
    """What a layer may be given: its bytes, and the loss that it adds."""

    num_bytes: int
    loss: float


class Choice(NamedTuple):
    """The index of each layer's option, and the sums."""

    picks: tuple[int, ...]
    num_bytes: int
    loss: float


class Knapsack:
    """All best choices at once: one for each number of bytes. Exact, by dynamic programming.

    Source: multiple-choice knapsack, Kellerer et al., Knapsack Problems, 2004, chapter 11.
    """

    def __init__(self, layers: Sequence[Sequence[Option]]) -> None:
        self._layers = layers
        self._unit = gcd(*(option.num_bytes for layer in layers for option in layer))
        room = sum(max(option.num_bytes for option in layer) for layer in layers) // self._unit
        best = np.full(room + 1, np.inf)
        best[0] = 0.0
        self._picks: list[np.ndarray] = []
        for layer in layers:
            best = self._with_layer(best, layer)
        self._best = best

    def _with_layer(self, best: np.ndarray, layer: Sequence[Option]) -> np.ndarray:
        """The least loss for each exact number of units, with this layer too."""
        after = np.full_like(best, np.inf)
        picks = np.zeros(len(best), np.int16)
        for index, option in enumerate(layer):
            units = option.num_bytes // self._unit
            loss = np.full_like(best, np.inf)
            loss[units:] = best[: len(best) - units] + option.loss
            picks[loss < after] = index
            after = np.minimum(after, loss)
        self._picks.append(picks)
        return after

    def within(self, num_bytes: int) -> Choice | None:
        """The least loss of at most `num_bytes`; None if not even the smallest options fit."""
        most = min(num_bytes // self._unit, len(self._best) - 1)
        if most < 0 or not np.isfinite(self._best[: most + 1]).any():
            return None
        units = int(np.argmin(self._best[: most + 1]))
        loss, picks = float(self._best[units]), []
        left = units
        for layer, taken in zip(reversed(self._layers), reversed(self._picks), strict=True):
            pick = int(taken[left])
            picks.append(pick)
            left -= layer[pick].num_bytes // self._unit
        return Choice(tuple(reversed(picks)), units * self._unit, loss)

    @property
    def least_bytes(self) -> int:
        return sum(min(option.num_bytes for option in layer) for layer in self._layers)
