"""The rows of the tables: what is asked of every engine."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from orders import Order, StallOrder

SECTIONS = ("decode", "ttft", "mixed", "p1024", "long", "stall")
MIXED_LENS = (100, 1024)
STALL = StallOrder(num_streams=64, prompt_len=128, arrival_len=4096, rate_per_s=2.0, seconds=8.0)


@dataclass(frozen=True)
class Row:
    """`order` is what is timed; `prefill` the same with one token each, where steps are wanted."""

    section: str
    label: str
    order: Order | StallOrder
    prefill: Order | None = None

    @property
    def longest(self) -> int:
        """The most tokens that one of its requests has, prompt and output together."""
        if isinstance(self.order, StallOrder):
            return self.order.arrival_len + 1
        lens = zip(self.order.prompt_lens, self.order.output_lens, strict=True)
        return max(prompt + output for prompt, output in lens)

    @property
    def num_streams(self) -> int:
        if isinstance(self.order, StallOrder):
            return self.order.num_streams
        return len(self.order.prompt_lens)


def rows_of(
    sections: Sequence[str], batches: Sequence[int], prompt: int, output: int
) -> Iterator[Row]:
    """The rows in the order of `sections`; batches, prompt and output are those of "decode"."""
    for section in sections:
        match section:
            case "decode":
                yield from (_even(section, batch, prompt, output) for batch in batches)
            case "ttft":
                yield from (_first_token(length) for length in (128, 1024, 4096, 16000))
            case "mixed":
                yield Row(section, "256 x 100..1024", _mixed(256))
            case "p1024":
                yield _even(section, 128, 1024, 128)
            case "long":
                yield _even(section, 32, 4096, 128)
                yield _even(section, 8, 16000, 64)
            case "stall":
                yield Row(section, "64 + 2/s x 4096", STALL)


def _even(section: str, batch: int, prompt: int, output: int) -> Row:
    """Equal lengths, so that what is left of the call without its prefill is equal steps."""
    order = Order([prompt] * batch, [output] * batch)
    label = f"{batch} x {prompt} -> {output}"
    return Row(section, label, order, replace(order, output_lens=[1] * batch))


def _first_token(prompt: int) -> Row:
    return Row("ttft", f"{prompt}", Order([prompt], [1]))


def _mixed(count: int) -> Order:
    """Lengths as vLLM's and nano-vllm's example benchmarks draw them: the tokens of a prompt are
    drawn between its length and the next, so they are drawn here too, and dropped."""
    rng = random.Random(0)
    prompt_lens = []
    for _ in range(count):
        prompt_lens.append(rng.randint(*MIXED_LENS))
        for _ in range(prompt_lens[-1]):
            rng.randint(0, 10_000)
    return Order(prompt_lens, [rng.randint(*MIXED_LENS) for _ in range(count)])
