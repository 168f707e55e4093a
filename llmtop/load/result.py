"""What one request came to: stamps of the client's monotonic clock and what follows from them."""

from __future__ import annotations

import msgspec


class Chunk(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A part of the stream that carried output, and how many tokens that was."""

    t_ns: int
    num_tokens: int


class RequestResult(msgspec.Struct, frozen=True):
    """One request. A latency is None if the request failed or the latency does not exist for it.

    `t_arrival_ns` is when the generator wanted to send, `t_send_ns` when it did, `t_done_ns` when
    the response ended. `error` is "" for an answer; `resent` counts kept connections that the
    server had closed. Token counts are the server's `usage` (`usage` True), otherwise
    `num_output_tokens` counts chunks. `chunks_counted` says that every chunk told its own number
    of tokens, or that there were as many chunks as tokens.
    """

    number: int
    warmup: bool
    t_arrival_ns: int
    t_send_ns: int
    t_done_ns: int
    chunks: tuple[Chunk, ...] = ()
    num_prompt_tokens: int = 0
    num_cached_tokens: int | None = None
    num_output_tokens: int = 0
    usage: bool = False
    chunks_counted: bool = False
    resent: int = 0
    error: str = ""

    @property
    def ok(self) -> bool:
        return not self.error

    @property
    def t_first_ns(self) -> int:
        return self.chunks[0].t_ns

    @property
    def t_last_ns(self) -> int:
        return self.chunks[-1].t_ns

    @property
    def client_queue_ns(self) -> int:
        """How long the request waited in the generator."""
        return self.t_send_ns - self.t_arrival_ns

    @property
    def ttft_ns(self) -> int | None:
        """Send to the first chunk with output."""
        return self.t_first_ns - self.t_send_ns if self.ok else None

    @property
    def e2el_ns(self) -> int | None:
        """Send to the last chunk with output."""
        return self.t_last_ns - self.t_send_ns if self.ok else None

    @property
    def tpot_ns(self) -> float | None:
        """Mean time of an output token after the first; None for one token."""
        if not self.ok or self.num_output_tokens < 2:
            return None
        return (self.t_last_ns - self.t_first_ns) / (self.num_output_tokens - 1)

    @property
    def icl_ns(self) -> list[int]:
        """The gaps between chunks, as they came."""
        return [b.t_ns - a.t_ns for a, b in zip(self.chunks, self.chunks[1:], strict=False)]

    @property
    def itl_ns(self) -> list[float]:
        """One value per token after the first chunk: k tokens of a chunk are k values gap/k."""
        return [
            gap / chunk.num_tokens
            for gap, chunk in zip(self.icl_ns, self.chunks[1:], strict=True)
            for _ in range(chunk.num_tokens)
        ]
