"""Reads an answer while it passes: how many tokens each part of it brought, and how it ended."""

from __future__ import annotations

from typing import Final

from llmtop.proxy.completion import Usage, read_completion
from llmtop.proxy.headers import Headers, value_of
from llmtop.sources.sse import FrameReader
from llmtop.unpacking import UnreadableError, unpacker
from profiler.errors import StreamError

# Of an event of a stream, or of an answer in one piece: what is larger is not measured.
MAX_HELD_BYTES: Final = 1 << 20
_DONE: Final = b"[DONE]"
_NO_COMPLETION: Final = "no completion"
_ERROR_WITHIN: Final = "an error in the stream"


class Answer:
    """The answer to one request, by its status and headers.

    `is_streamed` says whether its parts come as the tokens do, `is_whole` whether a stream has said
    that it is over: clients hang up on that, before the connection's own end reaches them.
    `counted_tokens` is None from when it turns out to be unreadable: too large, of an unknown
    encoding, or no completion at all.
    """

    def __init__(self, status: int, headers: Headers) -> None:
        kind = value_of(headers, b"content-type").partition(";")[0].strip()
        self.status = status
        self.is_streamed = kind == "text/event-stream"
        self.is_whole = False
        self.usage = Usage()
        self.finish_reason = ""
        self.counted_tokens: int | None = 0
        self._failure = f"status {status}" if status >= 300 else ""
        self._unpacker = unpacker(value_of(headers, b"content-encoding"))
        self._frames = FrameReader(MAX_HELD_BYTES)
        self._whole = bytearray()
        self._read_any = False
        self._told_tokens = 0
        if not (self.is_streamed or kind == "application/json"):
            self._failure = self._failure or _NO_COMPLETION
        if self._failure or self._unpacker is None:
            self.counted_tokens = None

    @property
    def failure(self) -> str:
        """Why it is no answer, "" if it is one or cannot be read."""
        if self._failure or self.counted_tokens is None or self._read_any:
            return self._failure
        return _NO_COMPLETION

    def feed(self, part: bytes) -> int:
        """The number of tokens that `part` brought, as they come in a stream."""
        if self.counted_tokens is None or self._unpacker is None:
            return 0
        try:
            plain = self._unpacker.feed(part)
            if self.is_streamed:
                return sum(self._event(frame.data) for frame in self._frames.feed(plain))
            self._hold(plain)
        except (UnreadableError, StreamError):
            self._give_up()
        return 0

    def end(self) -> int:
        """The number of tokens that only its end tells of: all of an answer in one piece."""
        if self.is_streamed or self.counted_tokens is None:
            return 0
        completion = read_completion(bytes(self._whole))
        self._whole.clear()
        if completion is None or not completion.choices:
            return 0
        self._read_any = True
        self.usage = completion.usage or self.usage
        self.finish_reason = completion.finish_reason
        self.counted_tokens = self.usage.completion_tokens
        return self.counted_tokens or 0

    def _event(self, data: bytes) -> int:
        if data == _DONE:
            self.is_whole = True
            return 0
        if not data:
            return 0
        completion = read_completion(data)
        if completion is None:
            return 0
        self._read_any |= bool(completion.choices)
        if completion.is_error:
            self._failure = _ERROR_WITHIN
        self.finish_reason = completion.finish_reason or self.finish_reason
        num_tokens = self._brought(completion.num_speaking, completion.usage)
        if completion.choices and num_tokens:
            self.counted_tokens = (self.counted_tokens or 0) + num_tokens
            return num_tokens
        return 0

    def _brought(self, num_speaking: int, usage: Usage | None) -> int:
        """What the server counts where it does so piece by piece, else a token a choice."""
        if usage is None:
            return num_speaking
        self.usage = usage
        total = usage.completion_tokens
        if total is None or (self.counted_tokens or 0) != self._told_tokens:
            return num_speaking
        new_tokens, self._told_tokens = max(0, total - self._told_tokens), total
        return new_tokens

    def _hold(self, plain: bytes) -> None:
        self._whole += plain
        if len(self._whole) > MAX_HELD_BYTES:
            raise UnreadableError

    def _give_up(self) -> None:
        self.counted_tokens = None
        self._whole.clear()
