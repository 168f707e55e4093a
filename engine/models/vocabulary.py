"""The vocabulary in a tokenizer.json."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as HubTokenizer

from engine.errors import ModelError

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def byte_alphabet() -> dict[str, int]:
    """The printable character that byte-level BPE writes for each byte, and that byte.

    Source: GPT-2. Printable Latin-1 bytes stand for themselves, the others follow from U+0100.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in set(printable)]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


class FileVocabulary:
    """Byte-level BPE, or SentencePiece pieces with a byte fallback."""

    def __init__(self, tokenizer: HubTokenizer, is_byte_level: bool) -> None:
        tokenizer.encode_special_tokens = False
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._alphabet = byte_alphabet() if is_byte_level else None
        self._added = tokenizer.get_added_tokens_decoder()

    @classmethod
    def load(cls, path: Path) -> FileVocabulary:
        """Raises: ModelError when the file is missing or holds no tokenizer."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise ModelError(
                f"{path} cannot be read",
                "The folder needs a tokenizer.json; transformers' save_pretrained writes one.",
            ) from error
        try:
            return cls(HubTokenizer.from_str(text), _is_byte_level(json.loads(text)))
        except Exception as error:  # tokenizers raises bare Exception
            reason = str(error).splitlines()[0]
            raise ModelError(f"{path} is no tokenizer: {reason}", "Fetch it again.") from error

    @property
    def special_ids(self) -> frozenset[int]:
        return frozenset(i for i, token in self._added.items() if token.special)

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def token_bytes(self, token_id: int) -> bytes:
        if token_id in self._added:
            return str(self._added[token_id].content).encode()
        piece = self._tokenizer.id_to_token(token_id)
        if piece is None:
            return b""
        return self._level_bytes(piece) if self._alphabet else _piece_bytes(piece)

    def _level_bytes(self, piece: str) -> bytes:
        alphabet = self._alphabet or {}
        if all(c in alphabet for c in piece):
            return bytes(alphabet[c] for c in piece)
        return piece.encode()


def _piece_bytes(piece: str) -> bytes:
    byte = BYTE_TOKEN.fullmatch(piece)
    if byte:
        return bytes([int(byte[1], 16)])
    return piece.replace("\u2581", " ").encode()


def _is_byte_level(raw: dict[str, Any]) -> bool:
    decoder = raw.get("decoder") or {}
    steps = [decoder, *decoder.get("decoders", [])]
    return any(step.get("type") == "ByteLevel" for step in steps)
