"""Requests without a seat, in the order in which they are to get one."""

from __future__ import annotations

from heapq import heappop, heappush

from engine.sequence import Sequence


class WaitingQueue:
    """A priority queue by `Sequence.key` from which any member can be taken out."""

    def __init__(self) -> None:
        self._heap: list[tuple[tuple[int, int], Sequence]] = []
        self._members: set[int] = set()
        self.num_tokens = 0

    def __len__(self) -> int:
        return len(self._members)

    def push(self, sequence: Sequence) -> None:
        heappush(self._heap, (sequence.key, sequence))
        self._members.add(sequence.number)
        self.num_tokens += len(sequence.token_ids)

    def head(self) -> Sequence | None:
        while self._heap and self._heap[0][1].number not in self._members:
            heappop(self._heap)
        return self._heap[0][1] if self._heap else None

    def remove(self, sequence: Sequence) -> None:
        self._members.remove(sequence.number)
        self.num_tokens -= len(sequence.token_ids)
