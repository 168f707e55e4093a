"""The vocabulary of models without files: a token is a byte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

NUM_BYTES: Final = 256


class ByteVocabulary:
    """Ids below 256 are bytes. Random weights also emit higher ids: those show as ASCII."""

    strips_first_space: Final = False

    def __init__(self, eos_ids: Sequence[int]) -> None:
        self.special_ids: Final = frozenset(eos_ids)

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return list(text.encode("utf-8", errors="replace"))

    def token_bytes(self, token_id: int) -> bytes:
        if token_id in self.special_ids:
            return b"<eos>"
        return bytes([token_id if token_id < NUM_BYTES else 32 + token_id % 95])
