"""Log-probabilities of tokens under the model's own distribution."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from engine.request import TokenLogprobs


class LogprobTensors(NamedTuple):
    """For N tokens: their own log-probability and rank, and the K likeliest in their places."""

    token_ids: Tensor  # (N,)
    own: Tensor  # (N,) fp32
    ranks: Tensor  # (N,) from 1
    top: Tensor  # (N, K) fp32, best first
    top_ids: Tensor  # (N, K)

    def on_host(self) -> LogprobTensors:
        """Copies on the host, filled once the device's stream has come this far."""
        return LogprobTensors(*(tensor.to("cpu", non_blocking=True) for tensor in self))

    def entries(self, num_top: list[int]) -> list[TokenLogprobs]:
        """The numbers on the host, with the first `num_top[i]` of the likeliest for token i."""
        columns = zip(
            self.token_ids.tolist(),
            self.own.tolist(),
            self.ranks.tolist(),
            self.top_ids.tolist(),
            self.top.tolist(),
            num_top,
            strict=True,
        )
        return [
            TokenLogprobs(token, own, rank, tuple(zip(ids[:count], top[:count], strict=True)))
            for token, own, rank, ids, top, count in columns
        ]


def logprobs_of(logits: Tensor, token_ids: Tensor, num_top: int) -> LogprobTensors:
    """Of `token_ids` (N,) under `logits` (N, V), before any sampling parameter."""
    logits = logits.float()
    normalizer = logits.logsumexp(-1, keepdim=True)
    own = logits.gather(1, token_ids[:, None])
    ranks = (logits > own).sum(-1) + 1
    top, top_ids = logits.topk(min(num_top, logits.shape[-1]))
    return LogprobTensors(token_ids, (own - normalizer)[:, 0], ranks, top - normalizer, top_ids)
