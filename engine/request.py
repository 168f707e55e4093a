"""What goes into the engine core and what comes out of it, in the form that crosses processes."""

from __future__ import annotations

import msgspec

from engine.config import SamplingParams


class EngineRequest(msgspec.Struct, frozen=True):
    """One sequence to be continued. `request` numbers the requests of a session from 1.

    `name` is the id the client sees. A request for n samples is expanded by the caller into n of
    these. `t_arrival_ns` is when the request reached us, on the host's monotonic clock.
    """

    request: int
    name: str
    prompt_token_ids: tuple[int, ...]
    params: SamplingParams
    priority: int = 0
    t_arrival_ns: int = 0
    eos_token_ids: tuple[int, ...] = ()


class TokenLogprobs(msgspec.Struct, frozen=True, array_like=True):
    """A token's natural-log probability under the model's own distribution (before any sampling
    parameter), its rank from 1, and the likeliest tokens there as (id, logprob), best first."""

    token_id: int
    logprob: float
    rank: int
    top: tuple[tuple[int, float], ...] = ()


class TokenOutput(msgspec.Struct, frozen=True, array_like=True):
    """What one step gave to one request.

    `finish_reason` is None while it runs, then "stop" or "length", or "error: ..." when a step that
    it was part of failed; `stop_token` is the end-of-text or stop id that ended it, which is the
    last of `token_ids`. `prompt_logprobs` come once, with the first output, one entry per prompt
    token; the first token has none.
    """

    request: int
    token_ids: list[int]
    logprobs: list[TokenLogprobs] | None = None
    prompt_logprobs: list[TokenLogprobs | None] | None = None
    finish_reason: str | None = None
    stop_token: int | None = None
    num_cached_tokens: int = 0
