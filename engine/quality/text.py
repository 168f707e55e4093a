"""What a cache is judged on: a text that every machine has, or a file, as windows of tokens."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.errors import EngineError

if TYPE_CHECKING:
    from engine.models.tokenizer import Tokenizer

MAX_TEXT_BYTES: Final = 64 << 20


class Text(NamedTuple):
    """`name` says where it is from, `sha256` which one exactly."""

    name: str
    sha256: str
    text: str


def default_text() -> Text:
    """CPython's own help topics, 465 kB of prose and code; they differ between its versions."""
    from pydoc_data.topics import topics

    text = "\n\n".join(topics[name] for name in sorted(topics))
    return _named(f"pydoc topics of Python {platform.python_version()}", text)


def read_text(path: Path) -> Text:
    """Raises: EngineError."""
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise EngineError(f"{path} is larger than 64 MiB", "Take a part of it.")
        return _named(path.name, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror}", "") from error
    except UnicodeDecodeError as error:
        raise EngineError(f"{path} is no UTF-8 text", "--text takes plain text.") from error


def token_windows(text: Text, tokenizer: Tokenizer, length: int, count: int) -> list[list[int]]:
    """`count` windows of `length` + 1 tokens (the last is only predicted), evenly over the text.

    Raises: EngineError if the text is too short for them.
    """
    ids = tokenizer.encode(text.text)
    if len(ids) < count * (length + 1):
        raise EngineError(
            f"{text.name} has {len(ids)} tokens; windows of {length} need {count * (length + 1)}",
            "Give a longer --text, or a smaller --window or --tokens.",
        )
    stride = len(ids) // count
    return [ids[i * stride : i * stride + length + 1] for i in range(count)]


def _named(name: str, text: str) -> Text:
    return Text(name, hashlib.sha256(text.encode()).hexdigest(), text)
