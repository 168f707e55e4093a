"""What a request must be before the core takes it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from engine.config import SamplingParams
from engine.errors import InvalidRequestError
from engine.request import EngineRequest

# Above about 1e45 its inverse is 0 in fp32, which to the sampler means greedy.
MOST_TEMPERATURE: Final = 1e6


def check_request(request: EngineRequest, max_model_len: int, vocab_size: int) -> None:
    """Raises: InvalidRequestError that names the field at fault."""
    prompt = request.prompt_token_ids
    params = request.params
    _require(bool(prompt), "prompt", "the prompt has no tokens")
    limit = max_model_len if params.max_tokens == 0 else max_model_len - 1
    _require(
        len(prompt) <= limit,
        "prompt",
        f"the prompt has {len(prompt)} tokens, and this model takes {limit}",
    )
    check_ids("prompt", prompt, vocab_size)
    check_ids("stop_token_ids", params.stop_token_ids, vocab_size)
    check_ids("logit_bias", params.logit_bias, vocab_size)
    check_params(params)


def check_params(params: SamplingParams) -> None:
    """Raises: InvalidRequestError that names the field at fault."""
    ranges = (
        ("n", params.n, 1, None),
        ("temperature", params.temperature, 0.0, MOST_TEMPERATURE),
        ("top_k", params.top_k, 0, None),
        ("min_p", params.min_p, 0.0, 1.0),
        ("max_tokens", params.max_tokens, 0, None),
        ("min_tokens", params.min_tokens, 0, params.max_tokens),
        ("presence_penalty", params.presence_penalty, -2.0, 2.0),
        ("frequency_penalty", params.frequency_penalty, -2.0, 2.0),
        ("logprobs", params.logprobs, 0, None),
        ("prompt_logprobs", params.prompt_logprobs, 0, None),
    )
    for name, value, low, high in ranges:
        _check_range(name, value, low, high)
    _require(0.0 < params.top_p <= 1.0, "top_p", f"top_p {params.top_p} is not in (0, 1]")
    penalty = params.repetition_penalty
    _require(0.0 < penalty < 1e6, "repetition_penalty", f"repetition_penalty {penalty} is not > 0")
    _require("" not in params.stop, "stop", "an empty stop string would end every answer")


def _check_range(name: str, value: float | None, low: float, high: float | None) -> None:
    """NaN is outside of every range."""
    if value is None or low <= value <= (float("inf") if high is None else high):
        return
    bounds = f"at least {low}" if high is None else f"between {low} and {high}"
    raise InvalidRequestError(f"{name} must be {bounds}, got {value}", name)


def check_ids(name: str, ids: Collection[int], vocab_size: int) -> None:
    """Raises: InvalidRequestError that names `name` for a token that the vocabulary lacks."""
    for token in (min(ids), max(ids)) if ids else ():
        if not 0 <= token < vocab_size:
            raise InvalidRequestError(f"{name}: token {token} is not in the vocabulary", name)


def _require(holds: bool, name: str, message: str) -> None:
    if not holds:
        raise InvalidRequestError(message, name)
