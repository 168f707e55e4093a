"""What is known of a request that another server computes, seen from outside of it.

There are no steps: a token's time is when the bytes that carry it came. Queue and prefill cannot be
told apart.
"""

from __future__ import annotations

import msgspec

from profiler.event import Event


class RequestForwarded(Event, frozen=True, gc=False):
    """The whole request is on its way to the server that is to answer it."""

    request: int


class TokenArrival(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """`num_tokens` of `request` that came in one piece at `t_ns`."""

    request: int
    t_ns: int
    num_tokens: int


class TokensReceived(Event, frozen=True, gc=False):
    """Tokens that came since the event before, in order of time; told when the first of them is
    50 ms old, or when one of their requests ends. A piece whose size the server did not tell counts
    as one token."""

    arrivals: tuple[TokenArrival, ...]


class RequestAnswered(Event, frozen=True, gc=False):
    """What the answer was, told right before the request has finished or is aborted.

    `status` is 0 where none came, and `first_byte_ns` None. `num_bytes` of the body came, as they
    were sent. The numbers of tokens are the server's own `usage`, None where it did not tell, and
    `counted_tokens` what was counted as it came, None where the answer could not be read;
    `finish_reason` is in its words, "" where it gave none.
    """

    request: int
    status: int
    num_bytes: int
    first_byte_ns: int | None = None
    num_prompt_tokens: int | None = None
    cached_tokens: int | None = None
    num_output_tokens: int | None = None
    counted_tokens: int | None = None
    finish_reason: str = ""
