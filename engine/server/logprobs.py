"""Log-probabilities in the three forms that clients read."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engine.models.tokenizer import Tokenizer
from engine.request import TokenLogprobs


class CompletionLogprobs(msgspec.Struct):
    """The columns of a text completion; `text_offset` counts characters of the choice's text."""

    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] = []
    text_offset: list[int] = []


class ChatTopLogprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int]


class ChatTokenLogprob(ChatTopLogprob):
    top_logprobs: list[ChatTopLogprob]


class ChatLogprobs(msgspec.Struct):
    content: list[ChatTokenLogprob]


class PromptLogprob(msgspec.Struct):
    logprob: float
    rank: int | None
    decoded_token: str


def token_label(tokenizer: Tokenizer, token_id: int) -> str:
    """The token's text; "bytes:\\xe2\\x80" for one that is no whole character."""
    data = tokenizer.token_bytes(token_id)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def completion_logprobs(
    tokenizer: Tokenizer,
    token_ids: Sequence[int],
    known: Sequence[TokenLogprobs | None],
    offset: int,
) -> CompletionLogprobs:
    """The columns for `token_ids`, whose text begins at `offset`.

    `known[i]` is None for a prompt's first token, which nothing predicts.
    """
    columns = CompletionLogprobs([], [], [], [])
    for token_id, entry in zip(token_ids, known, strict=True):
        label = token_label(tokenizer, token_id)
        columns.tokens.append(label)
        columns.text_offset.append(offset)
        offset += len(tokenizer.token_text(token_id))
        columns.token_logprobs.append(None if entry is None else entry.logprob)
        columns.top_logprobs.append(None if entry is None else _top(tokenizer, entry, label))
    return columns


def _top(tokenizer: Tokenizer, entry: TokenLogprobs, label: str) -> dict[str, float]:
    top = {label: entry.logprob}
    for token_id, logprob in entry.top:
        name = token_label(tokenizer, token_id)
        top[name] = max(logprob, top.get(name, logprob))
    return top


def chat_logprobs(tokenizer: Tokenizer, known: Sequence[TokenLogprobs]) -> ChatLogprobs:
    return ChatLogprobs([_chat_token(tokenizer, entry) for entry in known])


def _chat_token(tokenizer: Tokenizer, entry: TokenLogprobs) -> ChatTokenLogprob:
    top = [_chat_top(tokenizer, token, logprob) for token, logprob in entry.top]
    this = _chat_top(tokenizer, entry.token_id, entry.logprob)
    return ChatTokenLogprob(this.token, this.logprob, this.bytes, top)


def _chat_top(tokenizer: Tokenizer, token_id: int, logprob: float) -> ChatTopLogprob:
    data = list(tokenizer.token_bytes(token_id))
    return ChatTopLogprob(token_label(tokenizer, token_id), logprob, data)


def prompt_logprobs(
    tokenizer: Tokenizer, known: Sequence[TokenLogprobs | None]
) -> list[dict[str, PromptLogprob] | None]:
    """vLLM's form: for each prompt token its own entry and the likeliest ones, by token id."""
    return [None if entry is None else _by_id(tokenizer, entry) for entry in known]


def _by_id(tokenizer: Tokenizer, entry: TokenLogprobs) -> dict[str, PromptLogprob]:
    ranked = [(entry.token_id, entry.logprob, entry.rank)]
    ranked += [(token, logprob, rank) for rank, (token, logprob) in enumerate(entry.top, 1)]
    return {
        str(token): PromptLogprob(logprob, rank, token_label(tokenizer, token))
        for token, logprob, rank in reversed(ranked)
    }
