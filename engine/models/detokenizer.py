"""Token ids to text as they come, a whole character at a time. No torch."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from engine.models.tokenizer import Tokenizer


class Detokenizer:
    """One stream's decoder. Bytes that never become a character come out as U+FFFD."""

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset[int]()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, ids: Iterable[int]) -> str:
        """The text that these tokens complete; "" while a character is still partial."""
        data = b"".join(self._tokenizer.token_bytes(i) for i in ids if i not in self._skipped)
        return self._decoder.decode(data)

    def flush(self) -> str:
        """What is left at the end of the stream."""
        return self._decoder.decode(b"", final=True)
