"""Which request of one run is the same as which of another."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from profiler.compare.run import Requests

# Below this share of the smaller run, what pairs up does so by chance.
ENOUGH: Final = 0.9

By = Literal["name", "order", "none"]
Keys = Callable[[Requests], Sequence[Hashable]]


@dataclass(frozen=True, slots=True)
class Alignment:
    """`a[i]` and `b[i]` are indices of the same request, in order of A's arrivals.

    `by` is "name", where both runs know the same names with prompts of equal length (clients that
    choose their ids), or "order": the n-th request with a prompt and a bound on the output of that
    many tokens. A recording holds no prompt and no hash of one. "none": too few pair up, and both
    runs stand for themselves.
    """

    by: By
    a: NDArray[np.int64]
    b: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.a)


def align(a: Requests, b: Requests) -> Alignment:
    """By name if that pairs nearly all of the smaller run, else by order, else not at all."""
    enough = ENOUGH * min(len(a), len(b))
    keys: tuple[tuple[By, Keys], ...] = (("name", _names), ("order", _shapes))
    for by, keys_of in keys:
        pairs = _matched(keys_of(a), keys_of(b))
        if len(pairs) >= enough:
            first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
            return Alignment(by, first, second)
    nothing = np.empty(0, dtype=np.int64)
    return Alignment("none", nothing, nothing)


def _names(requests: Requests) -> Sequence[Hashable]:
    return list(zip(requests.names, requests.prompt_tokens.tolist(), strict=True))


def _shapes(requests: Requests) -> Sequence[Hashable]:
    return list(zip(requests.prompt_tokens.tolist(), requests.max_tokens.tolist(), strict=True))


def _matched(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Pairs of indices with equal keys, the n-th of a key with the n-th."""
    waiting: defaultdict[Any, deque[int]] = defaultdict(deque)
    for j, key in enumerate(b):
        waiting[key].append(j)
    return [(i, waiting[key].popleft()) for i, key in enumerate(a) if waiting.get(key)]
