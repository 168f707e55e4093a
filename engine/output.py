"""From token ids to text: what the server and the offline API share. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from engine.config import SamplingParams
from engine.models.detokenizer import Detokenizer
from engine.models.tokenizer import Tokenizer
from engine.request import EngineRequest, TokenLogprobs, TokenOutput
from engine.stop_strings import StopStrings

SEED_MASK = (1 << 63) - 1


class SampleUpdate(NamedTuple):
    """What is new of one sample. `text` never ends inside a character or a possible stop string.

    `finish_reason` is None, "stop", "length" or "error: ..."; `stop_reason` the stop string or stop
    token id behind a "stop", None if it was the end-of-text token. With `ended_by_text` the core
    does not know of the end yet: tell it with `finish(request, "stop")`.
    """

    request: int
    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprobs] | None
    prompt_logprobs: list[TokenLogprobs | None] | None
    finish_reason: str | None
    stop_reason: str | int | None
    ended_by_text: bool
    num_cached_tokens: int


def sample_params(params: SamplingParams) -> list[SamplingParams]:
    """The parameters of each of the `n` samples: seeds that differ, one set of prompt logprobs."""
    if params.n == 1:
        return [params]
    return [_nth(params, index) for index in range(params.n)]


def _nth(params: SamplingParams, index: int) -> SamplingParams:
    return msgspec.structs.replace(
        params,
        n=1,
        seed=None if params.seed is None else (params.seed + index) & SEED_MASK,
        prompt_logprobs=params.prompt_logprobs if index == 0 else None,
    )


class SampleText:
    """The text of one engine request as it grows."""

    def __init__(self, request: EngineRequest, tokenizer: Tokenizer) -> None:
        params = request.params
        self._request = request
        self._detokenizer = Detokenizer(
            tokenizer, request.prompt_token_ids, params.skip_special_tokens
        )
        self._stops = StopStrings(params.stop, params.include_stop_str_in_output)
        self._num_tokens = 0

    def update(self, output: TokenOutput) -> SampleUpdate:
        """What the output adds; nothing may follow one with a finish reason."""
        text, matched = self._push(output)
        reason = output.finish_reason
        stop_reason: str | int | None = self._stop_reason(output)
        if matched is not None:
            ended_by_text, reason, stop_reason = reason is None, "stop", matched
        else:
            ended_by_text = False
            if reason is not None:
                text += self._flush()
        return SampleUpdate(
            output.request,
            text,
            output.token_ids,
            output.logprobs,
            output.prompt_logprobs,
            reason,
            stop_reason,
            ended_by_text,
            output.num_cached_tokens,
        )

    def _push(self, output: TokenOutput) -> tuple[str, str | None]:
        params = self._request.params
        shown: Sequence[int] = output.token_ids
        if output.stop_token is not None and not params.include_stop_str_in_output:
            shown = shown[:-1]
        text = self._detokenizer.push(shown)
        self._num_tokens += len(output.token_ids)
        if self._num_tokens <= params.min_tokens:
            return text, None
        return self._stops.push(text)

    def _flush(self) -> str:
        text, matched = self._stops.push(self._detokenizer.flush())
        return text if matched is not None else text + self._stops.flush()

    def _stop_reason(self, output: TokenOutput) -> int | None:
        token = output.stop_token
        return token if token not in self._request.eos_token_ids else None


class OutputProcessor:
    """The texts of all requests in flight."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._samples: dict[int, SampleText] = {}

    def add(self, request: EngineRequest) -> None:
        """From now on, outputs of this request are turned into text."""
        self._samples[request.request] = SampleText(request, self._tokenizer)

    def drop(self, request: int) -> None:
        """Forgets a request; outputs that are still on their way for it are ignored."""
        self._samples.pop(request, None)

    def process(self, outputs: Iterable[TokenOutput]) -> list[SampleUpdate]:
        """One update per output of a known request; a request is forgotten with its last one."""
        updates: list[SampleUpdate] = []
        for output in outputs:
            sample = self._samples.get(output.request)
            if sample is None:
                continue
            update = sample.update(output)
            if update.finish_reason is not None:
                del self._samples[output.request]
            updates.append(update)
        return updates
