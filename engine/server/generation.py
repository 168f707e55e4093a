"""What becomes of one HTTP request inside the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from engine.config import SamplingParams
from engine.errors import EngineError
from engine.output import SampleUpdate, sample_params
from engine.request import EngineRequest


class PromptTokensDetails(msgspec.Struct, frozen=True):
    cached_tokens: int


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class Order(NamedTuple):
    """One HTTP request, read and checked. Each prompt is continued `params.n` times."""

    name: str
    prompts: Sequence[Sequence[int]]
    params: SamplingParams
    priority: int = 0
    t_arrival_ns: int = 0


class Generation:
    """The samples of one order: all of the first prompt, all of the second, and so on.

    The engine calls `take` and `fail`, the HTTP side awaits `next` until `done`. `requests[i]` is
    sample i's. `unfinished` holds the numbers of the requests that still run.
    """

    def __init__(self, order: Order, first_number: int, eos_token_ids: tuple[int, ...]) -> None:
        self.order = order
        self.requests = _expand(order, first_number, eos_token_ids)
        self.unfinished = {request.request for request in self.requests}
        self._first_number = first_number
        self._num_output = 0
        self._num_cached = [0] * len(self.requests)
        self._updates: list[SampleUpdate] = []
        self._news = asyncio.Event()
        self._error: EngineError | None = None

    @property
    def done(self) -> bool:
        """Every sample has ended and every update was handed out."""
        return not self.unfinished and not self._updates

    @property
    def num_unsent(self) -> int:
        """Tokens that nobody has asked for yet."""
        return sum(len(update.token_ids) for update in self._updates)

    def index_of(self, update: SampleUpdate) -> int:
        """The sample that an update belongs to."""
        return update.request - self._first_number

    def take(self, update: SampleUpdate) -> None:
        self._num_output += len(update.token_ids)
        self._num_cached[self.index_of(update)] = update.num_cached_tokens
        if update.finish_reason is not None:
            self.unfinished.discard(update.request)
        self._updates.append(update)
        self._news.set()

    def fail(self, error: EngineError) -> None:
        self._error = error
        self._news.set()

    async def next(self) -> list[SampleUpdate]:
        """What each sample got since the last call, of at least one of them.

        Raises: EngineError if the generation failed.
        """
        await self._news.wait()
        if self._error is not None:
            raise self._error
        self._news.clear()
        updates, self._updates = self._updates, []
        return _merge_by_sample(updates)

    def usage(self) -> Usage:
        """Tokens so far. A prompt counts once, however many samples share it."""
        num_prompt = sum(len(prompt) for prompt in self.order.prompts)
        cached = PromptTokensDetails(sum(self._num_cached[:: self.order.params.n]))
        return Usage(num_prompt, self._num_output, num_prompt + self._num_output, cached)


def _expand(order: Order, first_number: int, eos_token_ids: tuple[int, ...]) -> list[EngineRequest]:
    samples = sample_params(order.params)
    pairs = [(tuple(prompt), params) for prompt in order.prompts for params in samples]
    return [
        EngineRequest(
            request=first_number + index,
            name=order.name if len(pairs) == 1 else f"{order.name}-{index}",
            prompt_token_ids=prompt,
            params=params,
            priority=order.priority,
            t_arrival_ns=order.t_arrival_ns,
            eos_token_ids=eos_token_ids,
        )
        for index, (prompt, params) in enumerate(pairs)
    ]


def _merge_by_sample(updates: list[SampleUpdate]) -> list[SampleUpdate]:
    """Of a reader who is slower than the engine, several steps may have come."""
    if len({update.request for update in updates}) == len(updates):
        return updates
    of_sample: dict[int, list[SampleUpdate]] = {}
    for update in updates:
        of_sample.setdefault(update.request, []).append(update)
    return [merge(of_one) for of_one in of_sample.values()]


def merge(updates: Sequence[SampleUpdate]) -> SampleUpdate:
    """The updates of one sample, in order and at least one, as a single update."""
    logprobs = [entry for update in updates for entry in update.logprobs or ()]
    return updates[-1]._replace(
        text="".join(update.text for update in updates),
        token_ids=[token for update in updates for token in update.token_ids],
        logprobs=logprobs or None,
        prompt_logprobs=updates[0].prompt_logprobs,
    )
