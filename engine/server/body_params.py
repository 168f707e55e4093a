"""From the fields of a request body to `SamplingParams`, refusing what is out of range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engine.config import SamplingParams
from engine.server.http_errors import HttpError
from engine.server.schema import ChatBody, CompletionBody, GenerationBody

COMPLETION_MAX_TOKENS: Final = 16
MAX_LOGPROBS: Final = 20
MAX_SAMPLES: Final = 128
SEED_LIMIT: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class ModelLimits:
    max_model_len: int
    vocab_size: int


def completion_params(body: CompletionBody) -> SamplingParams:
    """What a completion body asks for; `max_tokens` is still to be fitted to the context.

    Raises: HttpError 400 that names the field.
    """
    n = body.n if body.n is not None else 1
    if body.best_of is not None and body.best_of != n:
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
    if max_tokens is not None:
        _check_range(name, max_tokens, 1)
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    return _params(body, max_tokens, logprobs, body.prompt_logprobs)


def fit_max_tokens(
    wanted: int | None, num_prompt_tokens: int, limits: ModelLimits, *, explicit: bool
) -> int:
    """How many tokens the request may generate.

    Raises: HttpError 400 with both lengths where prompt or prompt + max_tokens are too long.
    """
    room = limits.max_model_len - num_prompt_tokens
    if room < 1 and not (wanted == 0 and room == 0):
        raise _too_long(
            f"This model's maximum context length is {limits.max_model_len} tokens, but the "
            f"prompt has {num_prompt_tokens} tokens. Please shorten the prompt."
        )
    if wanted is None or (wanted > room and not explicit):
        return room
    if wanted > room:
        raise _too_long(
            f"This model's maximum context length is {limits.max_model_len} tokens, but "
            f"{num_prompt_tokens + wanted} were requested ({num_prompt_tokens} in the prompt, "
            f"{wanted} to generate). Please ask for fewer.",
            param="max_tokens",
        )
    return wanted


def _too_long(message: str, param: str = "prompt") -> HttpError:
    return HttpError(400, message, param=param, code="context_length_exceeded")


def _bad(param: str, message: str) -> HttpError:
    return HttpError(400, message, param=param)


def _check_range(
    name: str, value: float | None, low: float | None = None, high: float | None = None
) -> None:
    if value is None:
        return
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"between {low} and {high}"
        raise _bad(name, f"{name} must be {bounds}, got {value}")


def _check_chat_extras(body: ChatBody) -> None:
    if body.tools and (body.tool_choice is None or bytes(body.tool_choice) != b'"none"'):
        raise _bad("tools", "tools are not supported by this server")
    if body.response_format is not None and body.response_format.type != "text":
        raise _bad("response_format", "only response_format text is supported")
    if body.echo:
        raise _bad("echo", "echo is not supported for chat completions")


def _check_common(body: GenerationBody) -> None:
    _check_range("n", body.n, 1, MAX_SAMPLES)
    _check_range("temperature", body.temperature, 0.0)
    if body.top_p is not None and not 0.0 < body.top_p <= 1.0:
        raise _bad("top_p", f"top_p must be above 0 and at most 1, got {body.top_p}")
    _check_range("top_k", body.top_k, -1)
    _check_range("min_p", body.min_p, 0.0, 1.0)
    _check_range("presence_penalty", body.presence_penalty, -2.0, 2.0)
    _check_range("frequency_penalty", body.frequency_penalty, -2.0, 2.0)
    _check_range("min_tokens", body.min_tokens, 0)
    _check_range("prompt_logprobs", body.prompt_logprobs, 0, MAX_LOGPROBS)
    _check_range("seed", body.seed, -SEED_LIMIT, SEED_LIMIT - 1)
    if body.repetition_penalty is not None and not 0.0 < body.repetition_penalty <= 10.0:
        raise _bad("repetition_penalty", "repetition_penalty must be above 0 and at most 10")
    if body.structured_outputs is not None and bytes(body.structured_outputs) != b"null":
        raise _bad("structured_outputs", "structured outputs are not supported")
    if body.stream_options is not None and not body.stream:
        raise _bad("stream_options", "stream_options needs stream to be true")
    if body.truncate_prompt_tokens is not None and body.truncate_prompt_tokens < -1:
        raise _bad("truncate_prompt_tokens", "truncate_prompt_tokens must be -1 or more")
    for bias in (body.logit_bias or {}).values():
        _check_range("logit_bias", bias, -100.0, 100.0)


def _stop_strings(stop: str | list[str] | None) -> tuple[str, ...]:
    strings = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if "" in strings:
        raise _bad("stop", "stop must not contain an empty string")
    return strings


def _params(
    body: GenerationBody,
    max_tokens: int | None,
    logprobs: int | None,
    prompt_logprobs: int | None,
) -> SamplingParams:
    _check_common(body)
    defaults = SamplingParams()
    if max_tokens is not None and (body.min_tokens or 0) > max_tokens:
        raise _bad("min_tokens", f"min_tokens {body.min_tokens} is above max_tokens {max_tokens}")
    given = {
        name: getattr(body, name)
        for name in (
            "n temperature top_p min_p seed min_tokens ignore_eos include_stop_str_in_output "
            "skip_special_tokens repetition_penalty presence_penalty frequency_penalty logit_bias"
        ).split()
        if getattr(body, name) is not None
    }
    return SamplingParams(
        **given,
        top_k=max(0, body.top_k) if body.top_k is not None else defaults.top_k,
        max_tokens=max_tokens,
        stop=_stop_strings(body.stop),
        stop_token_ids=tuple(body.stop_token_ids or ()),
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
    )


def check_token_ids(params: SamplingParams, limits: ModelLimits) -> None:
    """Raises: HttpError 400 if a token id that the body names is not in the vocabulary."""
    for name, ids in (("logit_bias", params.logit_bias), ("stop_token_ids", params.stop_token_ids)):
        for token in ids:
            if not 0 <= token < limits.vocab_size:
                raise _bad(name, f"{name}: token {token} is not in the vocabulary")
