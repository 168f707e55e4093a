"""From what a body gives as prompt to token ids."""

from __future__ import annotations

import asyncio
from typing import Final

from engine.config import SamplingParams
from engine.models.tokenizer import Tokenizer
from engine.server.http_errors import HttpError
from engine.server.schema import ChatMessage, PromptInput

MAX_SAMPLES: Final = 1024
# Encoding 16,000 characters takes about 10 ms; more than that would hold up all streams.
LONG_TEXT: Final = 16_000

Prompt = str | list[int]


def split_prompts(prompt: PromptInput) -> list[Prompt]:
    """The prompts in one of the four forms: a text, token ids, or a list of either.

    Raises: HttpError 400.
    """
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise HttpError(400, "prompt must not be empty", param="prompt")
    if all(isinstance(entry, int) for entry in prompt):
        return [[int(entry) for entry in prompt if isinstance(entry, int)]]
    prompts: list[Prompt] = [entry for entry in prompt if not isinstance(entry, int)]
    kinds = {type(entry) for entry in prompt}
    if len(kinds) != 1:
        raise HttpError(400, "prompt mixes texts and token ids", param="prompt")
    return prompts


def check_count(prompts: list[Prompt], n: int) -> None:
    """Raises: HttpError 400 if one request asks for too many samples at once."""
    if len(prompts) * n > MAX_SAMPLES:
        text = f"{len(prompts)} prompts with n {n} are more than {MAX_SAMPLES} samples"
        raise HttpError(400, text, param="prompt")


async def encode(tokenizer: Tokenizer, prompt: Prompt, add_special_tokens: bool) -> list[int]:
    """The prompt's token ids. Long texts are encoded beside the event loop."""
    if not isinstance(prompt, str):
        return prompt
    if len(prompt) < LONG_TEXT:
        return tokenizer.encode(prompt, add_special_tokens)
    return await asyncio.to_thread(tokenizer.encode, prompt, add_special_tokens)


def truncate(ids: list[int], keep: int | None, max_model_len: int) -> list[int]:
    """The last `keep` token ids; -1 keeps what leaves room for one more token."""
    if keep is None:
        return ids
    return ids[-(keep if keep >= 0 else max_model_len - 1) :] if keep else []


def chat_messages(messages: list[ChatMessage]) -> list[dict[str, str]]:
    """The messages with their text parts joined. Raises: HttpError 400."""
    if not messages:
        raise HttpError(400, "messages must not be empty", param="messages")
    return [{"role": m.role, "content": _content(m)} for m in messages]


def _content(message: ChatMessage) -> str:
    if message.content is None:
        return ""
    if isinstance(message.content, str):
        return message.content
    for part in message.content:
        if part.type != "text" or part.text is None:
            raise HttpError(400, f"content of type {part.type} is not supported", param="messages")
    return "\n".join(part.text or "" for part in message.content)


def check_lengths(
    prompts: list[list[int]], params: SamplingParams, max_model_len: int, *, explicit: bool
) -> None:
    """Raises: HttpError 400 with both lengths, where a prompt, or together with an `explicit`
    max_tokens, is longer than the model's context."""
    wanted = params.max_tokens
    num_prompt = max(len(prompt) for prompt in prompts)
    least = 0 if wanted == 0 else 1
    if num_prompt + least > max_model_len:
        raise _too_long(
            f"This model's maximum context length is {max_model_len} tokens, but the prompt has "
            f"{num_prompt} tokens. Please shorten the prompt.",
            "prompt",
        )
    if explicit and wanted is not None and num_prompt + wanted > max_model_len:
        raise _too_long(
            f"This model's maximum context length is {max_model_len} tokens, but "
            f"{num_prompt + wanted} were requested ({num_prompt} in the prompt, {wanted} to "
            "generate). Please ask for fewer.",
            "max_tokens",
        )


def _too_long(message: str, param: str) -> HttpError:
    return HttpError(400, message, param=param, code="context_length_exceeded")
