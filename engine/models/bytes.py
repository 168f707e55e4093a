"""The vocabulary of models without files: a token is a byte."""

from __future__ import annotations

from collections.abc import Sequence

NUM_BYTES = 256


class ByteVocabulary:
    """Ids below 256 are bytes. Random weights also emit higher ids: those show as ASCII."""

    def __init__(self, eos_ids: Sequence[int]) -> None:
        self._special = frozenset(eos_ids)

    @property
    def special_ids(self) -> frozenset[int]:
        return self._special

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return list(text.encode("utf-8", errors="replace"))

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        kept = (i for i in ids if not (skip_special_tokens and i in self._special))
        return b"".join(map(self.token_bytes, kept)).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        if token_id in self._special:
            return b"<eos>"
        return bytes([token_id if token_id < NUM_BYTES else 32 + token_id % 95])
