"""The vocabulary in a tokenizer.json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
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

    def __init__(self, tokenizer: HubTokenizer, decoder: dict[str, Any]) -> None:
        """`decoder` is that entry of the tokenizer.json."""
        tokenizer.encode_special_tokens = False
        tokenizer.no_truncation()
        tokenizer.no_padding()
        kinds = {step.get("type"): step for step in _steps(decoder)}
        self._tokenizer = tokenizer
        self._alphabet = byte_alphabet() if "ByteLevel" in kinds else None
        self._added = tokenizer.get_added_tokens_decoder()
        self.special_ids = frozenset(i for i, token in self._added.items() if token.special)
        metaspace = kinds.get("Metaspace", {"prepend_scheme": "never"})
        self.strips_first_space = "Strip" in kinds or metaspace.get("prepend_scheme") != "never"

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
            decoder = json.loads(text).get("decoder") or {}
            return cls(HubTokenizer.from_str(text), decoder)
        except Exception as error:  # tokenizers raises bare Exception
            reason = str(error).splitlines()[0]
            raise ModelError(f"{path} is no tokenizer: {reason}", "Fetch it again.") from error

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def token_bytes(self, token_id: int) -> bytes:
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


def _steps(decoder: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield decoder
    for step in decoder.get("decoders", []):
        yield from _steps(step)
