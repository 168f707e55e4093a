"""Text from elsewhere, made safe to put on a terminal."""

from __future__ import annotations

import re

# Escape sequences first, whole, so that no "[31m" is left behind; then every control character,
# and the marks that reorder a line (a file name may hide in them).
_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_]?)"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_CONTROL_BUT_NEWLINE = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


def clean_line(text: str) -> str:
    """`text` on one line: no escape sequence, no control character; breaks become spaces."""
    spaced = _SEQUENCE.sub("", text).replace("\r\n", " ").replace("\n", " ").replace("\t", " ")
    return _CONTROL.sub("", spaced)


def clean_text(text: str) -> str:
    """Like `clean_line`, but line breaks stay."""
    return _CONTROL_BUT_NEWLINE.sub("", _SEQUENCE.sub("", text).replace("\t", "    "))
