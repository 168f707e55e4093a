"""What the rows of a step compute and look at, counted from their places alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from engine.kv.packed_plan import PackedPlan
from engine.models.config import ModelConfig
from engine.plan import PlanRow


class StepWork(NamedTuple):
    """As the fields of `Step` that have these names."""

    computed_tokens: int
    sampled_rows: int
    context_tokens: int
    attended_pairs: int
    wide_context_tokens: int


class WideReads(NamedTuple):
    """What attention reads in wide pages where pages are packed: the first `num_sinks` pages of a
    context, and those that the row writes to. Of these a long chunk reads full ones packed too."""

    block_size: int
    num_sinks: int

    @classmethod
    def of(cls, plan: PackedPlan | None, block_size: int) -> WideReads | None:
        return None if plan is None else cls(block_size, plan.num_sinks)

    def tokens(self, start: int, num_tokens: int, window: int) -> int:
        """Those of a row's context that lie there, each once."""
        end = start + num_tokens
        first_seen = end - _read(start, num_tokens, window)
        first_written = start // self.block_size * self.block_size
        num_kept = min(self.num_sinks * self.block_size, first_written)
        return end - max(first_seen, first_written) + max(0, num_kept - first_seen)


class WorkCounter:
    """Counts for one model. Layers with a window look at fewer tokens: the mean over all layers.

    `wide` None where pages are not packed.
    """

    def __init__(self, config: ModelConfig, wide: WideReads | None = None) -> None:
        windows = map(config.window_of, range(config.num_layers))
        self._layers = Counter(config.max_position if w is None else w for w in windows)
        self._max_position = config.max_position
        self._num_layers = config.num_layers
        self._wide = wide

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
            0 if self._wide is None else self._wide_tokens(rows, self._wide),
        )

    def _wide_tokens(self, rows: Sequence[PlanRow], wide: WideReads) -> int:
        tokens = sum(
            num_layers * sum(wide.tokens(row.start, row.num_tokens, window) for row in rows)
            for window, num_layers in self._layers.items()
        )
        return tokens // self._num_layers


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
