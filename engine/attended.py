"""What the rows of a step compute and look at, counted from their places alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from engine.models.config import ModelConfig
from engine.plan import PlanRow


class StepWork(NamedTuple):
    """As the fields of `Step` that have these names."""

    computed_tokens: int
    sampled_rows: int
    context_tokens: int
    attended_pairs: int


class WorkCounter:
    """Counts for one model. Layers with a window look at fewer tokens: the mean over all layers."""

    def __init__(self, config: ModelConfig) -> None:
        windows = map(config.window_of, range(config.num_layers))
        self._layers = Counter(config.max_position if w is None else w for w in windows)
        self._max_position = config.max_position
        self._num_layers = config.num_layers

    def count(self, rows: Sequence[PlanRow]) -> StepWork:
        contexts = [row.start + 1 for row in rows if row.num_tokens == 1]
        chunks = [(row.start, row.num_tokens) for row in rows if row.num_tokens > 1]
        context_tokens = attended_pairs = 0
        for window, num_layers in self._layers.items():
            whole = window >= self._max_position
            seen = sum(contexts if whole else [min(context, window) for context in contexts])
            context_tokens += num_layers * (seen + sum(_read(*c, window) for c in chunks))
            attended_pairs += num_layers * (seen + sum(_pairs(*c, window) for c in chunks))
        return StepWork(
            len(contexts) + sum(num_tokens for _, num_tokens in chunks),
            sum(row.samples for row in rows),
            context_tokens // self._num_layers,
            attended_pairs // self._num_layers,
        )


def _read(start: int, num_tokens: int, window: int) -> int:
    """Tokens of which a chunk reads K and V, each once: its first token sees the farthest back."""
    return min(start + num_tokens, num_tokens + window - 1)


def _pairs(start: int, num_tokens: int, window: int) -> int:
    """For each token of a chunk the tokens that it sees, itself included, summed."""
    return _seen_by_first(start + num_tokens, window) - _seen_by_first(start, window)


def _seen_by_first(count: int, window: int) -> int:
    """The same for the first `count` tokens of a sequence."""
    growing = min(count, window)
    return growing * (growing + 1) // 2 + (count - growing) * window
