"""Two recordings side by side: metrics, curves, settings, and the requests that became slower."""

from __future__ import annotations

from typing import Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.screen import Screen

from llmtop.compare.choice import Choice
from llmtop.keys import COMPARE_KEYS, Keymap
from llmtop.screens.help import HelpScreen
from llmtop.viewmodel import Connection, View, ViewModel
from llmtop.widgets.comparecurves import CompareCurves
from llmtop.widgets.comparehead import CompareHead
from llmtop.widgets.comparemetrics import CompareMetrics
from llmtop.widgets.comparesettings import CompareSettings
from llmtop.widgets.compareworst import CompareWorst
from llmtop.widgets.painted import Painted
from llmtop.widgets.panel import Panel
from llmtop.widgets.strips import Footer, PressStrip
from profiler.state import SessionState

WIDE_FROM: Final = 112
_METRICS_WIDTH: Final = 83
_TALL_FROM: Final = 30
_FIRST: Final = ("compare-metrics", "compare-settings")
_WORST_HEIGHT: Final = 13


class CompareScreen(Screen[None]):
    """Wide: metrics at the left, settings and curves at the right, requests below. Else one column
    without the settings."""

    CSS = """
    CompareScreen { layout: vertical; }
    CompareScreen #compare-top { height: 1fr; layout: horizontal; }
    CompareScreen #compare-side { layout: vertical; width: 1fr; }
    CompareScreen.narrow #compare-top { layout: vertical; height: 1fr; }
    CompareScreen.narrow #compare-settings { display: none; }
    CompareScreen.narrow #compare-side { height: 6; }
    """
    AUTO_FOCUS = ""
    BINDINGS = [  # noqa: RUF012
        Binding(key.keys, key.action, key.label, show=False, id=key.name) for key in COMPARE_KEYS
    ]

    def __init__(self, choice: Choice, keymap: Keymap) -> None:
        super().__init__()
        self._choice = choice
        self._shown = View(SessionState(), ViewModel(keymap), "COMPARE", Connection("connected"))

    def compose(self) -> ComposeResult:
        choice = self._choice
        yield CompareHead(choice, id="compare-head")
        with Container(id="compare-top"):
            yield CompareMetrics(choice, id="compare-metrics")
            with Container(id="compare-side"):
                yield CompareSettings(choice, id="compare-settings")
                yield CompareCurves(choice, id="compare-curves")
        yield CompareWorst(choice, id="compare-worst")
        yield Footer(id="footer")

    def on_resize(self) -> None:
        width, height = self.app.size
        wide = width >= WIDE_FROM
        self.set_class(not wide, "narrow")
        for panel in self.query(Panel):
            panel.compact = not wide
            panel.top = "┌┐" if panel.id in _FIRST else "├┤"
        self.query_one(CompareHead).styles.height = 5 if height >= _TALL_FROM else 4
        self.query_one(CompareMetrics).styles.width = _METRICS_WIDTH if wide else "1fr"
        changes = len(self._choice.comparison.config)
        self.query_one(CompareSettings).styles.height = min(max(2, changes + 1), height // 3)
        worst = self.query_one(CompareWorst)
        worst.joints = (_METRICS_WIDTH - 1, _METRICS_WIDTH) if wide else ()
        worst.bottom = "└┘"
        worst.styles.height = min(_WORST_HEIGHT, height // 4)
        self.call_after_refresh(self.repaint)

    def repaint(self) -> None:
        """Paint all of it, since what the viewer chose has changed."""
        for painted in self.query(Painted):
            if painted.display:
                painted.paint(self._shown)

    def action_move(self, by: int) -> None:
        metrics = self.query_one(CompareMetrics)
        if metrics.has_focus:
            metrics.scroll(by)
        else:
            self._choice.move(by)
        self.repaint()

    def action_other_table(self) -> None:
        metrics = self.query_one(CompareMetrics)
        (self.query_one(CompareWorst) if metrics.has_focus else metrics).focus()

    def action_latency(self, by: int) -> None:
        self._choice.next_latency(by)
        self.repaint()

    def action_side(self) -> None:
        self._choice.other_side()
        self.repaint()

    def action_open(self) -> None:
        """Leave with the selected request, for whoever runs the program to open."""
        chosen = self._choice.selected
        if chosen is None:
            self.notify("no request to open")
        else:
            self.app.exit(chosen)

    def action_help(self) -> None:
        self.app.push_screen(HelpScreen(self._shown.model.keymap, "compare", self.focused))

    @on(PressStrip.Pressed)
    async def _pressed(self, event: PressStrip.Pressed) -> None:
        await self.run_action(event.action)

    @on(CompareWorst.Picked)
    def _picked(self, event: CompareWorst.Picked) -> None:
        self.repaint()
        if event.again:
            self.action_open()
