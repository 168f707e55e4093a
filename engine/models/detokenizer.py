"""Token ids to text as they come, a whole character at a time. No torch."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence

from engine.models.tokenizer import Tokenizer


class Detokenizer:
    """One stream's decoder: what it gives together is what decoding all ids at once would give.

    `prompt_ids` is what the stream continues: after a prompt with text, a first space is kept.
    Bytes that never become a character come out as U+FFFD.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_ids: Sequence[int] = (),
        skip_special_tokens: bool = True,
    ) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset[int]()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._at_start = tokenizer.strips_first_space and all(
            i in self._skipped or not tokenizer.token_bytes(i) for i in prompt_ids
        )

    def push(self, ids: Iterable[int]) -> str:
        """The text that these tokens complete; "" while a character is still partial."""
        token_bytes, skipped = self._tokenizer.token_bytes, self._skipped
        data = b"".join([token_bytes(i) for i in ids if i not in skipped])
        if self._at_start and data:
            data = data.removeprefix(b" ")
            self._at_start = False
        return self._decoder.decode(data)

    def flush(self) -> str:
        """What is left at the end of the stream."""
        return self._decoder.decode(b"", final=True)
