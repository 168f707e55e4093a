"""Formats by layer from scores: the front of size against loss, and what it measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from engine.kv.formats import KVFormat, RecordLayout
from engine.quality.cached import CacheShape
from engine.quality.knapsack import Knapsack, Option
from engine.quality.sensitivity import KEYS, VALUES, Scores, Trial

PAIRS: Final = tuple(KVFormat(key, value) for key in KEYS for value in VALUES)
# Points of the front that are measured besides the one that was asked for.
NUM_POINTS: Final = 8


class Point(NamedTuple):
    """Each layer's format, bits an element of a packed page, and the KL that scores predict: the
    sum over layers and tensors."""

    formats: list[KVFormat]
    bits: float
    predicted_kl: float


def least_bits(head_dim: int, shape: CacheShape) -> float:
    """Bits an element of the smallest formats that are tried, whatever they lose."""
    least = min(RecordLayout(p, shape.block_size, head_dim, 2).num_bytes for p in PAIRS)
    return 8 * least / (2 * shape.block_size * head_dim)


class Front:
    """The best formats by layer for any size, if losses add up."""

    def __init__(self, scores: Scores, num_layers: int, head_dim: int, shape: CacheShape) -> None:
        self._elements = 2 * shape.block_size * head_dim * num_layers
        sizes = [RecordLayout(pair, shape.block_size, head_dim, 2).num_bytes for pair in PAIRS]
        self._knapsack = Knapsack(
            [
                [
                    Option(size, _kl(scores, layer, pair))
                    for size, pair in zip(sizes, PAIRS, strict=True)
                ]
                for layer in range(num_layers)
            ]
        )
        self._most_bytes = num_layers * max(sizes)
        self.least_bits = least_bits(head_dim, shape)

    @property
    def most_bits(self) -> float:
        return 8 * self._most_bytes / self._elements

    def within(self, bits: float) -> Point | None:
        """The best of at most so many bits an element; None if nothing is so small."""
        choice = self._knapsack.within(int(bits * self._elements / 8))
        if choice is None:
            return None
        formats = [PAIRS[pick] for pick in choice.picks]
        return Point(formats, 8 * choice.num_bytes / self._elements, choice.loss)

    def points(self, count: int = NUM_POINTS) -> list[Point]:
        """Evenly over all sizes, smallest first, none twice."""
        least, most = self.least_bits, self.most_bits
        steps = [least + (most - least) * i / (count - 1) for i in range(count)]
        points: list[Point] = []
        for bits in steps:
            point = self.within(bits + 1e-9)
            if point is not None and (not points or point.bits > points[-1].bits):
                points.append(point)
        return points


def describe(formats: Sequence[KVFormat]) -> str:
    """How many layers have which: "12 k8v4, 18 int4"."""
    names = [form.name for form in formats]
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))


def _kl(scores: Scores, layer: int, pair: KVFormat) -> float:
    key = scores.kl[Trial(layer, "key", pair.key).name]
    return key + scores.kl[Trial(layer, "value", pair.value).name]
