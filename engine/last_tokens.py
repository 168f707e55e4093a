"""What the device knows of sampled tokens before the host does."""

from __future__ import annotations

import torch
from torch import Tensor


class LastTokens:
    """The last sampled token of each seat, on the device, in the order in which steps run there."""

    def __init__(self, num_seats: int, device: torch.device) -> None:
        self._tokens = torch.zeros(num_seats, dtype=torch.int64, device=device)

    def fill(self, token_ids: Tensor, places: Tensor, seats: Tensor) -> None:
        """Writes the tokens of `seats` (N,) to `places` (N,) of `token_ids` (T,), all int64."""
        token_ids.index_copy_(0, places, self._tokens.index_select(0, seats))

    def keep(self, seats: Tensor, tokens: Tensor) -> None:
        """Remembers `tokens` (N,) as the last of `seats` (N,)."""
        self._tokens.index_copy_(0, seats, tokens)
