"""Bodies of requests. Unknown fields are ignored; null means "not given" for every field."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from engine.server.http_errors import HttpError

PromptInput = str | list[int | str | list[int]]


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class GenerationBody(msgspec.Struct, frozen=True, kw_only=True):
    """What completions and chat share: OpenAI's names, then the extras that vLLM's users know."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    user: str | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    ignore_eos: bool | None = None
    min_tokens: int | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    truncate_prompt_tokens: int | None = None
    prompt_logprobs: int | None = None
    return_token_ids: bool | None = None
    add_special_tokens: bool | None = None
    priority: int | None = None
    request_id: str | None = None
    structured_outputs: object = None


class CompletionBody(GenerationBody, frozen=True, kw_only=True):
    prompt: PromptInput
    echo: bool | None = None
    logprobs: int | None = None
    best_of: int | None = None
    suffix: str | None = None


class ContentPart(msgspec.Struct, frozen=True):
    type: str
    text: str | None = None


class ChatMessage(msgspec.Struct, frozen=True):
    role: str
    content: str | list[ContentPart] | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    type: str


class ChatBody(GenerationBody, frozen=True, kw_only=True):
    messages: list[ChatMessage]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: ResponseFormat | None = None
    tools: list[object] | None = None
    tool_choice: object = None
    add_generation_prompt: bool | None = None
    echo: bool | None = None


class TokenizeBody(msgspec.Struct, frozen=True, kw_only=True):
    """Either `prompt` or `messages`."""

    model: str | None = None
    prompt: str | None = None
    messages: list[ChatMessage] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeBody(msgspec.Struct, frozen=True, kw_only=True):
    tokens: list[int]
    model: str | None = None


T = TypeVar("T", bound=msgspec.Struct)

_FIELD_PATH = re.compile(r" - at `(?:key` in `)?\$\.?([^`]*)`$")
_MISSING = re.compile(r"missing required field `(\w+)`")


def parse_body(data: bytes, kind: type[T]) -> T:
    """The body as a `kind`. Raises: HttpError 400 that names the field at fault."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise _bad_field(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HttpError(400, f"The body is not valid JSON: {error}") from None


def _bad_field(text: str) -> HttpError:
    missing = _MISSING.search(text)
    if missing:
        name = missing.group(1)
        return HttpError(400, f"Missing required field: {name}", param=name)
    path = _FIELD_PATH.search(text)
    if path is None:
        return HttpError(400, text)
    name = path.group(1)
    said = text[: path.start()].replace("`", "")
    return HttpError(400, f"{name}: {said}" if name else said, param=name or None)
