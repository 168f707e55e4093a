"""Which headers go on, and which belong to one connection alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

Headers = list[tuple[bytes, bytes]]

# Source: RFC 9110, section 7.6.1, and what came before it.
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Met already: whoever reads a body from the client has told it to go on.
_ANSWERED_HERE: Final = frozenset({b"expect", b"host"})


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """All headers in their order but those of one connection, by their name or as `Connection`
    lists them."""
    kept = [(name.lower(), value) for name, value in headers]
    listed = {
        option.strip().lower()
        for name, value in kept
        if name == b"connection"
        for option in value.split(b",")
    }
    return [(n, v) for n, v in kept if n not in _HOP_BY_HOP and n not in listed]


def forwarded(headers: Iterable[tuple[bytes, bytes]], host: bytes) -> Headers:
    """The headers of a request to `host`. A body whose length the client does not tell is sent on
    in chunks, as it came."""
    asked = list(headers)
    passed = [(n, v) for n, v in end_to_end(asked) if n not in _ANSWERED_HERE]
    if not is_in_chunks(asked):
        return [(b"host", host), *passed]
    # Where a client sends both, the length is not that of what was read.
    passed = [(n, v) for n, v in passed if n != b"content-length"]
    return [(b"host", host), *passed, (b"transfer-encoding", b"chunked")]


def is_in_chunks(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the body tells its length as it goes."""
    return any(name.lower() == b"transfer-encoding" for name, _ in headers)


def value_of(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    """The first value of a header, in lower case; "" if there is none."""
    found = (value for key, value in headers if key.lower() == name)
    return next(found, b"").decode("latin-1").strip().lower()
