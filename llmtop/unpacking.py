"""The plain bytes of a body that passes compressed, within bounds."""

from __future__ import annotations

import zlib
from typing import Final, Protocol

# Of one part that came at once: text compresses to a tenth, not to a thousandth.
MAX_PART_BYTES: Final = 8 << 20
_GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32


class UnreadableError(Exception):
    """What passes cannot be read, and so not be measured."""


class Unpacker(Protocol):
    def feed(self, part: bytes) -> bytes:
        """What `part` brings, plain. Raises: UnreadableError."""


class _Plain:
    def feed(self, part: bytes) -> bytes:
        return part


class _Inflater:
    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(_GZIP_OR_ZLIB)

    def feed(self, part: bytes) -> bytes:
        try:
            plain = self._inflater.decompress(part, MAX_PART_BYTES)
        except zlib.error:
            raise UnreadableError from None
        if self._inflater.unconsumed_tail:
            raise UnreadableError
        return plain


def unpacker(encoding: str) -> Unpacker | None:
    """Of a Content-Encoding; None of one that is not understood."""
    if encoding in ("", "identity"):
        return _Plain()
    return _Inflater() if encoding in ("gzip", "x-gzip", "deflate") else None
