"""The streamed answer to one request, as an OpenAI server writes it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import msgspec

from llmtop.load.result import Chunk

MAX_ERROR_TEXT: Final = 200
MAX_LINE_BYTES: Final = 1 << 20


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None
    finish_reason: str | None = None

    @property
    def output(self) -> str:
        if self.delta is not None:
            return (self.delta.content or "") + (self.delta.reasoning_content or "")
        return self.text or ""


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None


class _Message(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Message)


class FailedRequestError(Exception):
    """The response is no answer; the text says why, without anything that differs by request."""


class Answer:
    """Gathers the messages of one stream; `newest_text` is what the last `add` brought."""

    def __init__(self) -> None:
        self._stamps: list[tuple[int, int | None]] = []
        self._counted = 0
        self.usage: _Usage | None = None
        self.complete = False
        self.newest_text = ""

    def add(self, data: bytes, t_ns: int) -> int:
        """The number of tokens that the message brought, 1 if it does not tell.

        Raises: FailedRequestError.
        """
        self.newest_text = ""
        if data == b"[DONE]":
            self.complete = True
            return 0
        try:
            message = _decoder.decode(data)
        except msgspec.DecodeError:
            raise FailedRequestError(
                "the stream holds something that is not a completion"
            ) from None
        if message.error is not None:
            raise FailedRequestError(f"error in the stream: {error_text(message.error)}")
        num_tokens = self._new_tokens(message.usage)
        choices = message.choices
        self.complete |= any(choice.finish_reason for choice in choices)
        self.newest_text = "".join(choice.output for choice in choices)
        if self.newest_text or (choices and self._counts(num_tokens)):
            self._stamps.append((t_ns, num_tokens))
            return 1 if num_tokens is None else num_tokens
        return 0

    def _counts(self, num_tokens: int | None) -> bool:
        """Whether a message without text still brought tokens, rather than a total at the end."""
        return bool(num_tokens) and all(n is not None for _, n in self._stamps)

    def _new_tokens(self, usage: _Usage | None) -> int | None:
        if usage is None:
            return None
        self.usage = usage
        new = usage.completion_tokens - self._counted
        self._counted = usage.completion_tokens
        return new

    def check(self) -> None:
        """Raises: FailedRequestError."""
        if not self._stamps or (self.usage is not None and self.usage.completion_tokens == 0):
            raise FailedRequestError("no generated tokens")
        if not self.complete:
            raise FailedRequestError("the stream ended early")

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """The chunks; one of unknown size counts as one token."""
        told = all(n is not None and n > 0 for _, n in self._stamps)
        return tuple(Chunk(t_ns, n if told and n else 1) for t_ns, n in self._stamps)


def error_text(error: object) -> str:
    """The message of an OpenAI error object, in one short line."""
    text = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(text).split())[:MAX_ERROR_TEXT]


def body_text(body: bytes) -> str:
    """What the body of an answer that is not 200 says is wrong, in one short line."""
    try:
        content = msgspec.json.decode(body)
    except msgspec.DecodeError:
        content = body.decode(errors="replace")
    if isinstance(content, dict) and "error" in content:
        content = content["error"]
    return error_text(content)


class EventData:
    """Cuts a stream, however it is split, into the data of its events."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, part: bytes) -> list[bytes]:
        """The data of the events that `part` completes. Raises: FailedRequestError."""
        lines = (self._rest + part).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_LINE_BYTES:
            raise FailedRequestError("a line of the stream is too long")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


async def sse_data(response: httpx.Response) -> AsyncIterator[tuple[bytes, int]]:
    """The data of each event of a stream, and when the bytes that completed it came."""
    stream = EventData()
    async for part in response.aiter_bytes():
        t_ns = time.monotonic_ns()
        for data in stream.feed(part):
            yield data, t_ns
