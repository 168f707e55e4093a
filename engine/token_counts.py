"""Which tokens a request has seen, for penalties."""

from __future__ import annotations

from collections import Counter


class TokenCounts:
    """Grows with the request: `seen` are the ids of prompt and output, `output` counts its own."""

    def __init__(self, token_ids: list[int], num_prompt: int) -> None:
        self._token_ids = token_ids
        self._num_counted = num_prompt
        self.seen = set(token_ids[:num_prompt])
        self.output: Counter[int] = Counter()

    def catch_up(self) -> None:
        """Counts the tokens that came since the last call."""
        new = self._token_ids[self._num_counted :]
        self._num_counted += len(new)
        self.seen.update(new)
        self.output.update(new)
