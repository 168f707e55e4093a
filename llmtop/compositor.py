"""Sends only those cells of a line that changed.

Textual 8.2 cuts an update off at the right end of what changed, but begins it at the left edge of
the widget: several changes in one line send its left part several times. On the page map at
120x40 that is 460 KiB/s where 60 would do. This is the only file that knows Textual's inside; if
that changes, `tests/llmtop/test_compositor.py` says so.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from textual._compositor import ChopsUpdate, Compositor
from textual.strip import Strip


class TightUpdate(ChopsUpdate):
    """Draws each span (line, first column, end column) from its own first column on."""

    def render_segments(self, console: Console) -> str:
        out: list[str] = []
        for y, first, end in self.spans:
            for x, chop_end, strip in self._chops_of(y):
                left, right = max(x, first), min(chop_end, end)
                if left < right:
                    out.append(f"\x1b[{y + 1};{left + 1}H")
                    out.append(strip.crop(left - x, right - x).render(console))
        return "".join(out)

    def _chops_of(self, y: int) -> Iterator[tuple[int, int, Strip]]:
        """First column, end column and strip of each part of line `y`, from left to right."""
        ends = self.chop_ends[y]
        for (x, strip), end in zip(self.chops[y].items(), ends, strict=True):
            if strip is not None:
                yield x, end, strip


class TightCompositor(Compositor):
    """Textual's, with updates that are tight at both ends."""

    def render_partial_update(self) -> ChopsUpdate | None:
        update = super().render_partial_update()
        if update is None:
            return None
        return TightUpdate(update.chops, update.spans, update.chop_ends)
