"""The short way from painted rows to the terminal.

Textual 8.2 turns each changed line of a widget into segments, filters them, cuts them at every
widget's edge and sends the line from the widget's left edge on. For the page map at 120x40, where
150 cells change in a frame, that is 221 KiB/s and 12 % of a core at four frames a second (two
cores at 2.1 GHz). Painted widgets know which of their cells changed; here these cells go out alone.

This is the only file that knows Textual's inside. Whatever is not plain (another screen on top, a
toast over the widget, a widget of another kind, a new layout) goes Textual's own way.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from textual._compositor import ChopsUpdate, Compositor, CompositorUpdate
from textual._styles_cache import StylesCache
from textual.geometry import Region
from textual.screen import Screen
from textual.widget import Widget

from llmtop.widgets.painted import Painted


def forget_removed() -> None:
    """Drops what is kept of widgets that are gone.

    Textual remembers the results of a method of 1,024 widgets' caches, and so the caches with all
    their lines: 4,000 objects for each sheet that was opened and closed.
    """
    StylesCache.get_inner_outer.cache_clear()


class DirectUpdate(CompositorUpdate):
    """`drawn` is ready for the terminal; `rest` is what Textual has to draw besides."""

    def __init__(self, drawn: str, rest: ChopsUpdate | None) -> None:
        self.drawn = drawn
        self.rest = rest

    def render_segments(self, console: Console) -> str:
        return self.drawn + ("" if self.rest is None else self.rest.render_segments(console))


class DirectCompositor(Compositor):
    """Textual's, but for painted widgets that nothing covers."""

    def __init__(self) -> None:
        super().__init__()
        self._drawn: list[str] = []

    def update_widgets(self, widgets: set[Widget]) -> None:
        direct = self._direct(widgets)
        for widget in direct:
            region, _ = self.visible_widgets[widget]
            self._drawn += [
                widget.drawn(dirty, region.x, region.y)
                for dirty in widget._exchange_repaint_regions()
            ]
        super().update_widgets(widgets.difference(direct))

    def render_partial_update(self) -> ChopsUpdate | None:
        rest = super().render_partial_update()
        drawn, self._drawn = "".join(self._drawn), []
        return DirectUpdate(drawn, rest) if drawn else rest  # type: ignore[return-value]

    def _direct(self, widgets: set[Widget]) -> set[Painted]:
        screen = self.root
        if not isinstance(screen, Screen) or screen.app.screen is not screen:
            return set()
        if self._full_map_invalidated or self.size.region in self._dirty_regions:
            return set()
        return set(self._uncovered(widgets))

    def _uncovered(self, widgets: set[Widget]) -> Iterator[Painted]:
        """Those of `widgets` that are plain, whole, and have nothing in front of them."""
        in_front: list[Region] = []
        for widget, (region, clip) in self.visible_widgets.items():
            if isinstance(widget, Painted) and widget in widgets and widget.is_plain:
                covered = any(map(region.overlaps, in_front))
                if not covered and clip.contains_region(region):
                    yield widget
            in_front.append(region)
