"""From the fields of a request body to `SamplingParams`."""

from __future__ import annotations

from typing import Final

from engine.config import SamplingParams
from engine.server.http_errors import HttpError
from engine.server.schema import ChatBody, CompletionBody, GenerationBody

COMPLETION_MAX_TOKENS: Final = 16
MAX_LOGPROBS: Final = 20
MAX_SAMPLES: Final = 128
# Whole numbers reach the core as 64 bits.
INT_LIMIT: Final = 1 << 63

# Fields that mean the same in a body and in SamplingParams; null leaves the default.
SHARED_FIELDS: Final = (
    "n temperature top_p min_p seed min_tokens ignore_eos include_stop_str_in_output "
    "skip_special_tokens repetition_penalty presence_penalty frequency_penalty logit_bias"
).split()


def completion_params(body: CompletionBody) -> SamplingParams:
    """What a completion body asks for. Ranges that the engine knows are left to it.

    Raises: HttpError 400 that names the field.
    """
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise _bad("best_of", "best_of other than n is not supported")
    if body.suffix:
        raise _bad("suffix", "suffix is not supported")
    _check_range("logprobs", body.logprobs, 0, MAX_LOGPROBS)
    max_tokens = body.max_tokens if body.max_tokens is not None else COMPLETION_MAX_TOKENS
    _check_range("max_tokens", max_tokens, 0 if body.echo else 1)
    prompt_logprobs = body.prompt_logprobs
    if body.echo and body.logprobs is not None:
        prompt_logprobs = max(body.logprobs, prompt_logprobs or 0)
    return _params(body, max_tokens, body.logprobs, prompt_logprobs)


def chat_params(body: ChatBody) -> SamplingParams:
    """Like `completion_params`; `max_tokens` None means the rest of the context."""
    _check_chat_extras(body)
    _check_range("top_logprobs", body.top_logprobs, 0, MAX_LOGPROBS)
    if body.top_logprobs and not body.logprobs:
        raise _bad("top_logprobs", "top_logprobs needs logprobs to be true")
    name = "max_completion_tokens" if body.max_completion_tokens is not None else "max_tokens"
    max_tokens: int | None = getattr(body, name)
    _check_range(name, max_tokens, 1)
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    return _params(body, max_tokens, logprobs, body.prompt_logprobs)


def _bad(param: str, message: str) -> HttpError:
    return HttpError(400, message, param=param)


def _check_range(name: str, value: float | None, low: float, high: float | None = None) -> None:
    if value is None or low <= value <= (float("inf") if high is None else high):
        return
    bounds = f"at least {low}" if high is None else f"between {low} and {high}"
    raise _bad(name, f"{name} must be {bounds}, got {value}")


def _check_chat_extras(body: ChatBody) -> None:
    if body.tools and body.tool_choice != "none":
        raise _bad("tools", "tools are not supported by this server")
    if body.response_format is not None and body.response_format.type != "text":
        raise _bad("response_format", "only response_format text is supported")
    if body.echo:
        raise _bad("echo", "echo is not supported for chat completions")


def _check_common(body: GenerationBody) -> None:
    _check_range("n", body.n, 1, MAX_SAMPLES)
    _check_range("prompt_logprobs", body.prompt_logprobs, 0, MAX_LOGPROBS)
    for name in ("seed", "priority", "top_k"):
        _check_range(name, getattr(body, name), -INT_LIMIT, INT_LIMIT - 1)
    _check_range("truncate_prompt_tokens", body.truncate_prompt_tokens, -1)
    if body.structured_outputs is not None:
        raise _bad("structured_outputs", "structured outputs are not supported")
    if body.stream_options is not None and not body.stream:
        raise _bad("stream_options", "stream_options needs stream to be true")
    if body.stream and body.prompt_logprobs is not None:
        raise _bad("prompt_logprobs", "prompt_logprobs is not supported for streams")
    for bias in (body.logit_bias or {}).values():
        _check_range("logit_bias", bias, -100.0, 100.0)


def _params(
    body: GenerationBody,
    max_tokens: int | None,
    logprobs: int | None,
    prompt_logprobs: int | None,
) -> SamplingParams:
    _check_common(body)
    given = {name: getattr(body, name) for name in SHARED_FIELDS}
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return SamplingParams(
        **{name: value for name, value in given.items() if value is not None},
        top_k=0 if body.top_k in (None, -1) else body.top_k,  # -1 is off, as 0 is
        max_tokens=max_tokens,
        stop=stop,
        stop_token_ids=tuple(body.stop_token_ids or ()),
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
    )
