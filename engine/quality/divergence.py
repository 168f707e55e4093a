"""How far two models' next-token distributions lie apart, token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class Quality(msgspec.Struct, frozen=True):
    """Over `num_tokens` predicted tokens, all in nats.

    `delta_nll` is the mean of NLL minus the reference's, its standard error taken between windows
    (tokens of one window are not independent), None with a single window. `kl_*` is KL(reference ||
    this). `top1` is the share of tokens where both think the same token likeliest.
    """

    num_tokens: int
    perplexity: float
    delta_nll: float
    delta_nll_se: float | None
    kl_mean: float
    kl_p99: float
    top1: float


def log_probs(logits: Tensor) -> Tensor:
    """Over the last axis, in fp32."""
    return logits.float().log_softmax(-1)


class Divergence:
    """Gathers, window by window, what `quality` sums up."""

    def __init__(self) -> None:
        self._nll: list[NDArray[np.float64]] = []
        self._delta: list[NDArray[np.float64]] = []
        self._kl: list[NDArray[np.float64]] = []
        self._agrees: list[NDArray[np.float64]] = []
        self._window_means: list[float] = []
        self._window_begin = 0

    def add(self, log_p: Tensor, logits: Tensor, targets: Tensor) -> None:
        """The reference's log-probabilities and the other's logits, both (T, V), of the same
        positions; `targets` (T,) are the tokens that came."""
        log_q = log_probs(logits)
        rows = torch.arange(len(targets))
        nll, reference_nll = -log_q[rows, targets], -log_p[rows, targets]
        # Rounding may leave a sum of equal distributions a hair below 0.
        kl = (log_p.exp() * (log_p - log_q)).sum(-1).clamp_min(0.0)
        self._nll.append(_double(nll))
        self._delta.append(_double(nll) - _double(reference_nll))
        self._kl.append(_double(kl))
        self._agrees.append(_double((log_p.argmax(-1) == log_q.argmax(-1)).float()))

    def end_window(self) -> None:
        deltas = np.concatenate(self._delta[self._window_begin :])
        self._window_means.append(float(deltas.mean()))
        self._window_begin = len(self._delta)

    def quality(self) -> Quality:
        kl, nll = np.concatenate(self._kl), np.concatenate(self._nll)
        means = np.array(self._window_means)
        se = float(means.std(ddof=1) / len(means) ** 0.5) if len(means) > 1 else None
        return Quality(
            num_tokens=len(kl),
            perplexity=float(np.exp(nll.mean())),
            delta_nll=float(np.concatenate(self._delta).mean()),
            delta_nll_se=se,
            kl_mean=float(kl.mean()),
            kl_p99=float(np.quantile(kl, 0.99)),
            top1=float(np.concatenate(self._agrees).mean()),
        )


def _double(x: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = x.double().cpu().numpy()
    return array
