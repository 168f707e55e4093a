"""What load to send."""

from __future__ import annotations

import random
from typing import Literal, NamedTuple

import msgspec

from llmtop.errors import LoadError
from llmtop.peer import key_headers, root_of


class Span(NamedTuple):
    """Whole numbers from `low` to `high`, both included."""

    low: int
    high: int


class Lengths(msgspec.Struct, frozen=True):
    """A mixture of token counts: a span is drawn evenly, then a number in it evenly."""

    spans: tuple[Span, ...]

    @classmethod
    def parse(cls, text: str) -> Lengths:
        """The mixture in `text`, such as "128", "64-256" or "32,128,512-1024".

        Raises: LoadError.
        """
        try:
            spans = tuple(_span(part) for part in text.split(","))
        except ValueError:
            raise LoadError(
                f"{text!r} is not a length", 'write "128", "64-256" or "32,128,512-1024"'
            ) from None
        return cls(spans)

    def draw(self, rng: random.Random) -> int:
        span = rng.choice(self.spans)
        return rng.randint(span.low, span.high)

    def __str__(self) -> str:
        return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in self.spans)


def _span(text: str) -> Span:
    low, dash, high = text.partition("-")
    span = Span(int(low), int(high if dash else low))
    if not 1 <= span.low <= span.high:
        raise ValueError(text)
    return span


class Objectives(msgspec.Struct, frozen=True, omit_defaults=True):
    """The latencies in milliseconds that a good answer stays within. None asks nothing."""

    ttft: float | None = None
    tpot: float | None = None
    e2el: float | None = None


class LoadSpec(msgspec.Struct, frozen=True):
    """Load for one OpenAI server. The same spec and seed give the same prompts and lengths.

    Closed loop: `concurrency` streams, each sends its next request when its last has ended.
    Open loop: `rate_per_s` Poisson arrivals, at most `concurrency` of them in flight (0: no bound).
    Ends after `num_requests` or once `duration_s` has passed, or runs until stopped.
    `warmup_requests` go first, in the same way, and are left out of every number.

    A share of `shared_prefix_share` (0 to 1) of the requests begins with the same
    `shared_prefix_tokens` tokens; those count towards the prompt's length.

    `ignore_eos` and `continuous_usage` (each chunk tells its tokens) go beyond OpenAI's own API.
    """

    base_url: str
    model: str | None = None
    api_key: str | None = None
    endpoint: Literal["completions", "chat"] = "completions"
    concurrency: int = 8
    rate_per_s: float | None = None
    num_requests: int | None = None
    duration_s: float | None = None
    warmup_requests: int = 0
    prompt_tokens: Lengths = Lengths((Span(128, 128),))
    output_tokens: Lengths = Lengths((Span(128, 128),))
    shared_prefix_share: float = 0.0
    shared_prefix_tokens: int = 0
    ignore_eos: bool = True
    continuous_usage: bool = True
    temperature: float = 0.0
    seed: int = 0
    timeout_s: float = 600.0
    objectives: Objectives | None = None

    def __post_init__(self) -> None:
        """Raises: LoadError."""
        if self.rate_per_s is None and self.concurrency < 1:
            raise LoadError(
                "a closed loop needs at least one stream", "give --concurrency 1 or more"
            )
        if self.rate_per_s is not None and self.rate_per_s <= 0:
            raise LoadError("the rate of arrivals must be above zero")
        if not 0 <= self.shared_prefix_share <= 1:
            raise LoadError("the share of requests with a shared prefix lies between 0 and 1")

    @property
    def root_url(self) -> str:
        """The server's address without a trailing slash or /v1."""
        return root_of(self.base_url)

    @property
    def headers(self) -> dict[str, str]:
        """What every request of the spec carries."""
        return key_headers(self.api_key)


def demo_spec(base_url: str, api_key: str | None = None, seed: int = 0) -> LoadSpec:
    """Gentle, varied load without an end, so that a newcomer sees every panel move."""
    return LoadSpec(
        base_url=base_url,
        api_key=api_key,
        concurrency=6,
        prompt_tokens=Lengths.parse("24-48,96-160,256-384"),
        output_tokens=Lengths.parse("24-160"),
        shared_prefix_share=0.5,
        shared_prefix_tokens=96,
        temperature=0.8,
        seed=seed,
    )
