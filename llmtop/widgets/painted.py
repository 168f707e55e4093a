"""A widget that keeps its drawn rows and sends only those cells that changed."""

from __future__ import annotations

from rich.color import ColorSystem
from rich.console import COLOR_SYSTEMS
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from llmtop.viewmodel import View
from llmtop.widgets.asciiset import ascii_row
from llmtop.widgets.cells import Cells, cells_in, changed_runs, stretch
from llmtop.widgets.palette import style_of
from llmtop.widgets.rows import EMPTY, Row, exact_row


class Painted(Widget):
    """A subclass draws `rows`; `paint` compares them with what is on the screen."""

    DEFAULT_CSS = "Painted { height: 1fr; width: 1fr; }"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._drawn: list[Row] = []
        self._rows: list[Row] = []
        self._cells: list[Cells] = []
        self._styles: dict[str, Style] = {}
        self._codes: dict[str, tuple[str, str]] = {}
        self._strips: dict[int, Strip] = {}
        self._changed: dict[Region, list[tuple[int, int]]] = {}
        self._painted_size = (0, 0)
        self._view: View | None = None

    def rows(self, view: View, width: int, height: int) -> list[Row]:
        """At most `height` rows; shorter ones are filled up with blanks."""
        raise NotImplementedError

    def paint(self, view: View) -> None:
        """Draw `view`; nothing is sent for rows that stay as they are."""
        self._view = view
        width, height = self.size
        if not width or not height:
            return
        drawn = self.rows(view, width, height)[:height]
        drawn += [EMPTY] * (height - len(drawn))
        if self._painted_size != (width, height):
            self._drawn, self._rows = drawn, [self._exact(row, width) for row in drawn]
            self._cells = [cells_in(row) for row in self._rows]
            self._painted_size = (width, height)
            self._strips.clear()
            self._styles.clear()
            self._codes.clear()
            self.refresh()
            return
        self._send_changes(drawn, width)

    def _exact(self, row: Row, width: int) -> Row:
        exact = exact_row(row, width)
        only_ascii = self._view is not None and self._view.model.ascii
        return ascii_row(exact) if only_ascii else exact

    def _send_changes(self, drawn: list[Row], width: int) -> None:
        changed: dict[Region, list[tuple[int, int]]] = {}
        for y, raw in enumerate(drawn):
            if raw == self._drawn[y]:
                continue
            row = self._exact(raw, width)
            cells = cells_in(row)
            runs = changed_runs(self._cells[y], cells)
            if runs:
                self._strips.pop(y, None)
                (first, _), (last, count) = runs[0], runs[-1]
                changed[Region(first, y, last + count - first, 1)] = runs
            self._drawn[y], self._rows[y], self._cells[y] = raw, row, cells
        # Textual is told of one stretch a row: it takes 3 us for each. One that was told already
        # and waits to be drawn is drawn whole.
        self._changed = {r: runs for r, runs in changed.items() if r not in self._changed}
        if changed:
            self.refresh(*changed)

    def forget(self) -> None:
        """Let go of the picture, and so of its state, while nobody sees the widget."""
        self._view = None

    @property
    def painted_view(self) -> View | None:
        """The picture that is on the screen."""
        return self._view

    def row(self, y: int) -> Row:
        """What stands on line `y` now."""
        return self._rows[y] if y < len(self._rows) else EMPTY

    def repaint(self) -> None:
        """Draw the last picture again, with new colours or another size."""
        self._painted_size = (0, 0)
        if self._view is not None:
            self.paint(self._view)

    def on_resize(self) -> None:
        self.repaint()

    def render_line(self, y: int) -> Strip:
        strip = self._strips.get(y)
        if strip is None:
            strip = self._strips[y] = self._strip(y)
        return strip

    def _strip(self, y: int) -> Strip:
        if y >= len(self._rows):
            return Strip.blank(self.size.width, self.rich_style)
        styles = self._styles
        segments = [
            Segment(text, styles.get(role) or self._style(role)) for text, role in self._rows[y]
        ]
        return Strip(segments, self.size.width)

    @property
    def is_plain(self) -> bool:
        """Whether its rows, drawn for its size, are all there is of it: no border, no fading."""
        is_whole = bool(self._rows) and self._painted_size == self.size
        return is_whole and not self.styles.gutter and self.opacity == 1.0

    def drawn(self, region: Region, left: int, top: int) -> str:
        """What writes `region` of the widget, whose corner is at column `left` of line `top`; of a
        region that `paint` told of, its changed cells."""
        runs = self._changed.pop(region, ((region.x, region.width),))
        out: list[str] = []
        for y in region.line_range:
            cells = self._cells[y]
            for x, count in runs:
                out.append(f"\x1b[{top + y + 1};{left + x + 1}H")
                for text, role in stretch(cells, x, count):
                    before, after = self._codes.get(role) or self._code(role)
                    out.append(f"{before}{text}{after}")
        return "".join(out)

    def _code(self, role: str) -> tuple[str, str]:
        """The control sequences around text in `role`, as Textual would write them."""
        segments = [Segment("x", self._styles.get(role) or self._style(role))]
        for line_filter in self.get_line_filters():
            segments = line_filter.apply(segments, self.background_colors[1])
        system = COLOR_SYSTEMS.get(self.app.console.color_system or "", ColorSystem.TRUECOLOR)
        style = segments[0].style or Style.null()
        before, _, after = style.render("x", color_system=system).partition("x")
        self._codes[role] = before, after
        return before, after

    def _style(self, role: str) -> Style:
        """Looked up once a role: Textual computes a widget's own style anew each time."""
        self._styles[role] = style = self.rich_style + style_of(self.app.theme, role)
        return style
