"""How each page lies where full pages are packed: wide while it is written, then packed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from profiler.events import PageForm

FORM_NAMES: Final = ("", "hot", "sink", "packed")
NO_FORM, HOT, SINK, PACKED = range(4)


class PageForms:
    """`flags` has an entry a page, an index into FORM_NAMES: not written to yet, hot in a wide page
    that is being written, a sink that keeps its wide page, or packed. Pages of a cache that does
    not pack have none."""

    def __init__(self) -> None:
        self.flags = bytearray()
        self._counts = [0] * len(FORM_NAMES)

    @property
    def hot(self) -> int:
        return self._counts[HOT]

    @property
    def sinks(self) -> int:
        return self._counts[SINK]

    @property
    def wide(self) -> int:
        """Pages that have a wide page."""
        return self.hot + self.sinks

    @property
    def packed(self) -> int:
        return self._counts[PACKED]

    def of(self, page: int) -> str:
        return FORM_NAMES[self.flags[page]]

    def is_wide(self, page: int) -> bool:
        return self.flags[page] in (HOT, SINK)

    def wide_pages(self) -> list[int]:
        """Those that have a wide page, in order."""
        return sorted([*self._places(HOT), *self._places(SINK)])

    def _places(self, form: int) -> Iterator[int]:
        # Of 100,000 pages a few are wide, and a screen asks for them ten times a second.
        at = self.flags.find(form)
        while at >= 0:
            yield at
            at = self.flags.find(form, at + 1)

    def resize(self, more: int) -> None:
        self.flags.extend(bytes(more))
        self._counts[NO_FORM] += more

    def turn(self, pages: Sequence[int], form: int) -> None:
        flags, counts = self.flags, self._counts
        for page in pages:
            counts[flags[page]] -= 1
            flags[page] = form
        counts[form] += len(pages)

    def clear(self, page: int) -> None:
        if self.flags[page]:
            self.turn((page,), NO_FORM)

    def mend(self, spans: tuple[PageForm, ...]) -> bool:
        """Every page as the spans say, impossible ones left out; whether one was different."""
        num_pages = len(self.flags)
        flags = bytearray(num_pages)
        for span in spans:
            first, count = span.page, span.count
            if span.form in FORM_NAMES and 0 <= first and 0 < count <= num_pages - first:
                flags[first : first + count] = bytes((FORM_NAMES.index(span.form),)) * count
        changed = flags != self.flags
        self._replace(flags)
        return changed

    def freeze(self) -> bytes:
        return bytes(self.flags)

    def thaw(self, data: bytes, num_pages: int) -> None:
        """Raises: ValueError when `data`, b"" from before there were any, does not fit."""
        flags = data or bytes(num_pages)
        if len(flags) != num_pages or not set(flags) <= set(range(len(FORM_NAMES))):
            raise ValueError("a page in a form that does not exist")
        self._replace(bytearray(flags))

    def _replace(self, flags: bytearray) -> None:
        self.flags = flags
        self._counts = [flags.count(form) for form in range(len(FORM_NAMES))]
