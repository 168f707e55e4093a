"""What an engine is asked to do, in the form that crosses processes. Standard library alone, as
the engines run under interpreters and paths of their own."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

# Ids of every vocabulary here that are no special tokens; the same bounds whatever the engine.
FIRST_ID = 3
MOST_IDS = 10_000


@dataclass(frozen=True)
class Settings:
    """How to load the model. `shape` is its config.json, for engines that know no `random:NAME`."""

    model: str
    shape: dict[str, Any]
    dtype: str
    device: str
    memory_fraction: float
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    kv_cache_dtype: str = "auto"


@dataclass(frozen=True)
class Order:
    """Prompts of these lengths at once, each with as many output tokens as asked, greedy."""

    prompt_lens: Sequence[int]
    output_lens: Sequence[int]
    seed: int = 0

    @property
    def num_output(self) -> int:
        return sum(self.output_lens)

    def prompts(self, vocab_size: int) -> list[list[int]]:
        """Token ids: the same for every engine, and each time."""
        rng = random.Random(self.seed)
        ids = range(FIRST_ID, min(vocab_size, MOST_IDS))
        return [rng.choices(ids, k=length) for length in self.prompt_lens]


@dataclass(frozen=True)
class StallOrder:
    """`num_streams` requests decode; then prompts of `arrival_len` come, `rate_per_s` of them a
    second for `seconds`, and each asks for one token."""

    num_streams: int
    prompt_len: int
    arrival_len: int
    rate_per_s: float
    seconds: float
    seed: int = 0


AnyOrder = Order | StallOrder


def to_message(order: AnyOrder) -> dict[str, Any]:
    return {"kind": type(order).__name__, **asdict(order)}


def from_message(message: dict[str, Any]) -> AnyOrder:
    kinds: dict[str, type[AnyOrder]] = {"Order": Order, "StallOrder": StallOrder}
    return kinds[message["kind"]](**{k: v for k, v in message.items() if k != "kind"})


def digest(outputs: Sequence[Sequence[int]]) -> str:
    """Twelve hex digits that stand for the tokens of all outputs, in order."""
    text = ";".join(",".join(map(str, tokens)) for tokens in outputs)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
