"""From logits to tokens."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.draws import draws_of
from engine.logit_edits import LogitEdits
from engine.penalties import StepPenalties
from engine.plan import PlanRow
from engine.random_numbers import uniform

# Thresholds are looked for among this many largest logits of a row before the row is sorted: a
# sort of 32 x 49,152 takes 165 ms on two cores, the 256 largest 8 ms.
NUM_CANDIDATES: Final = 256
BLOCK: Final = 256


class SamplingStep(NamedTuple):
    """How one step's rows are sampled: `penalties` and `edits` to logits first, `draws` None if all
    are greedy."""

    edits: LogitEdits | None
    draws: npt.NDArray[np.void] | None  # engine.draws.DRAW, (S,)
    penalties: StepPenalties | None = None

    @classmethod
    def of(
        cls, rows: SequenceOf[PlanRow], vocab_size: int, penalties: StepPenalties | None = None
    ) -> SamplingStep:
        """The sampling of the next tokens of these rows, in this order."""
        edits = LogitEdits.of([row.sequence for row in rows])
        return cls(edits, draws_of(rows, vocab_size), penalties)

    def edited(self, logits: Tensor) -> Tensor:
        """`logits` (S, V) themselves, or an edited copy in float32."""
        if self.edits is None and self.penalties is None:
            return logits
        copy = logits.to(torch.float32, copy=True)
        if self.penalties is not None:
            self.penalties.apply(copy)
        if self.edits is not None:
            self.edits.apply(copy)
        return copy


class Draws(NamedTuple):
    """The rows that draw instead of taking the likeliest token, a column per setting, (N,) each."""

    rows: Tensor  # int64
    inverse_temperature: Tensor
    top_k: Tensor  # int64
    top_p: Tensor
    min_logit: Tensor
    uniform: Tensor  # float64, in [0, 1)

    @classmethod
    def of(cls, table: npt.NDArray[np.void]) -> Draws:
        rows = np.flatnonzero(table["inverse_temperature"])
        drawing = table[rows]
        numbers = [uniform(int(row["seed"]), int(row["position"])) for row in drawing]
        names = "inverse_temperature", "top_k", "top_p", "min_logit"
        scale, top_k, top_p, min_logit = (torch.tensor(drawing[name]) for name in names)
        shares = torch.tensor(numbers, dtype=torch.float64)
        return cls(torch.from_numpy(rows), scale, top_k.long(), top_p, min_logit, shares)


def sample(logits: Tensor, step: SamplingStep) -> Tensor:
    """One token per row of `logits` (S, V) on the CPU, which stay as they are; (S,) int64."""
    edited = step.edited(logits)
    if step.draws is None:
        return argmax(edited)
    if edited is logits:
        edited = logits.to(torch.float32, copy=True)
    draws = Draws.of(step.draws)
    if len(draws.rows) == len(edited):
        return draw(edited, draws)
    tokens = argmax(edited)
    tokens[draws.rows] = draw(edited[draws.rows], draws)
    return tokens


def argmax(logits: Tensor) -> Tensor:
    """The first of the largest logits of each row; (S,) int64.

    On the CPU by numpy: for 32 x 49,152 in fp32 0.2 ms against torch's 7, in two threads, beside
    another busy process. Positive bf16 numbers order as the int16 numbers that they are made of.
    """
    if logits.device.type != "cpu" or logits.dtype not in (torch.bfloat16, torch.float32):
        return logits.argmax(-1)
    if logits.dtype is torch.float32:
        return torch.from_numpy(logits.numpy().argmax(-1))
    bits = logits.view(torch.int16).numpy()
    tokens = bits.argmax(-1)
    if (bits[np.arange(len(bits)), tokens] <= 0).any():
        return logits.argmax(-1)
    return torch.from_numpy(tokens)


def draw(logits: Tensor, draws: Draws) -> Tensor:
    """One token per row, drawn under its row's settings; (N,) int64. May overwrite `logits`.

    The order is vLLM's: temperature, min-p, top-k, top-p. What is kept is decided by a threshold,
    equal logits alike, and tokens are taken in the order of their ids: so neither ties nor the
    rest of the batch decide what a row gets.
    """
    logits.mul_(draws.inverse_temperature[:, None])
    logits.sub_(logits.amax(-1, keepdim=True))
    floor = draws.min_logit
    if bool((draws.top_p < 1.0).any() or (draws.top_k < logits.shape[-1]).any()):
        floor = threshold(logits, draws)
    weights = logits.exp().masked_fill_(logits < floor[:, None], 0.0)
    return _pick(weights, draws.uniform)


def threshold(logits: Tensor, draws: Draws) -> Tensor:
    """The smallest logit that each row keeps (N,); `logits` (N, V) have their maximum at 0."""
    floor = draws.min_logit
    width = min(NUM_CANDIDATES, logits.shape[-1])
    found, done = _search(logits, floor, draws.top_k, draws.top_p, width)
    late = (~done).nonzero()[:, 0]
    if len(late):
        top_k, top_p = draws.top_k[late], draws.top_p[late]
        found[late], _ = _search(logits[late], floor[late], top_k, top_p, logits.shape[-1])
    return found


def _search(
    logits: Tensor, floor: Tensor, top_k: Tensor, top_p: Tensor, width: int
) -> tuple[Tensor, Tensor]:
    """The thresholds that the `width` largest logits show, and which rows' thresholds they do."""
    vocab_size = logits.shape[-1]
    largest = logits.topk(width).values
    last = largest.gather(1, (top_k.clamp(max=width) - 1)[:, None])[:, 0]
    floor = torch.where(top_k < vocab_size, torch.maximum(floor, last), floor)
    total = torch.where(logits >= floor[:, None], logits, float("-inf")).exp().sum(-1)
    kept = torch.where(largest >= floor[:, None], largest, float("-inf")).exp()
    mass = kept.cumsum(-1) / total[:, None]
    # The nucleus ends with the first token at which the mass reaches top_p.
    crossing = (mass < top_p[:, None]).sum(-1)
    edge = largest.gather(1, crossing.clamp(max=width - 1)[:, None])[:, 0]
    nucleus = torch.where(top_p < 1.0, torch.maximum(floor, edge), floor)
    shows_k = (top_k <= width) | (top_k >= vocab_size)
    return nucleus, shows_k & ((crossing < width) | (top_p >= 1.0))


def _pick(weights: Tensor, uniforms: Tensor) -> Tensor:
    """The token at the given share of each row's total weight; (N,) int64.

    First the block of 256 tokens, then the token in it: one pass over the weights in fp32, exact
    sums of the few numbers that decide.
    """
    num_rows, vocab_size = weights.shape
    weights = torch.nn.functional.pad(weights, (0, -vocab_size % BLOCK))
    blocks = weights.view(num_rows, -1, BLOCK)
    sums = blocks.sum(-1).double()
    ends = sums.cumsum(-1)
    target = uniforms[:, None] * ends[:, -1:]
    block = torch.searchsorted(ends, target, right=True).clamp_(max=blocks.shape[1] - 1)
    begin = ends.gather(1, block) - sums.gather(1, block)
    # Below 1 even after rounding, lest the last token is taken whatever its weight.
    share = ((target - begin) / sums.gather(1, block)).clamp_(0.0, 1.0 - 2.0**-52)
    inside = blocks[torch.arange(num_rows, device=weights.device), block[:, 0]].double()
    inside_ends = inside.cumsum(-1)
    place = torch.searchsorted(inside_ends, share * inside_ends[:, -1:], right=True)
    return (block * BLOCK + place.clamp_(max=BLOCK - 1))[:, 0].clamp_(max=vocab_size - 1)
