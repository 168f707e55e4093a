"""Ending a text at a string, wherever the token borders lie."""

from __future__ import annotations

from typing import NamedTuple


class Passed(NamedTuple):
    """Text that is safe to show, and the stop string that ended it, if one did."""

    text: str
    matched: str | None


class StopStrings:
    """Holds text back while it may still become a stop string.

    The match that is complete first counts, the longest of those that end together: so the result
    does not depend on how the text was cut into pieces.
    """

    def __init__(self, strings: tuple[str, ...], include_match: bool) -> None:
        self._strings = strings
        self._include_match = include_match
        self._held = ""

    def push(self, text: str) -> Passed:
        """What may be shown now that `text` follows. Nothing may be pushed after a match."""
        if not self._strings:
            return Passed(text, None)
        text = self._held + text
        match = self._first_match(text)
        if match is not None:
            start, string = match
            end = start + len(string) if self._include_match else start
            return Passed(text[:end], string)
        keep = self._num_undecided(text)
        self._held = text[len(text) - keep :]
        return Passed(text[: len(text) - keep], None)

    def flush(self) -> str:
        """What was held back, now that nothing follows."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str) -> tuple[int, str] | None:
        starts = ((text.find(string), string) for string in self._strings)
        found = [(start + len(string), start, string) for start, string in starts if start >= 0]
        if not found:
            return None
        _, start, string = min(found)
        return start, string

    def _num_undecided(self, text: str) -> int:
        """Length of the longest end of `text` that a stop string begins with."""
        longest = min(len(text), max(map(len, self._strings)) - 1)
        for length in range(longest, 0, -1):
            if any(string.startswith(text[-length:]) for string in self._strings):
                return length
        return 0
