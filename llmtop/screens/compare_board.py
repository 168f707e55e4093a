"""Two recordings side by side: metrics, curves, settings, and the requests that became slower."""

from __future__ import annotations

from typing import Final

from textual.app import ComposeResult
from textual.containers import Container

from llmtop.compare.choice import Choice
from llmtop.widgets.comparecurves import CompareCurves
from llmtop.widgets.comparehead import CompareHead
from llmtop.widgets.comparemetrics import CompareMetrics
from llmtop.widgets.comparesettings import CompareSettings
from llmtop.widgets.compareworst import CompareWorst
from llmtop.widgets.panel import Panel

WIDE_FROM: Final = 112
_METRICS_WIDTH: Final = 83
_TALL_FROM: Final = 28
_CURVES_FROM: Final = 16
_FIRST: Final = ("compare-metrics", "compare-settings")
_WORST_HEIGHT: Final = 13


class CompareBoard(Container):
    """Wide: metrics at the left, settings and curves at the right, requests below. Else one column
    without the settings, and where it is low without the curves."""

    DEFAULT_CSS = """
    CompareBoard { layout: vertical; width: 1fr; height: 1fr; }
    CompareBoard #compare-top { height: 1fr; layout: horizontal; }
    CompareBoard #compare-side { layout: vertical; width: 1fr; }
    CompareBoard.narrow #compare-top { layout: vertical; height: 1fr; }
    CompareBoard.narrow #compare-settings { display: none; }
    CompareBoard.narrow #compare-side { height: 6; }
    CompareBoard.low #compare-side { display: none; }
    """

    def __init__(self, choice: Choice) -> None:
        super().__init__()
        self._choice = choice

    def compose(self) -> ComposeResult:
        choice = self._choice
        yield CompareHead(choice, id="compare-head")
        with Container(id="compare-top"):
            yield CompareMetrics(choice, id="compare-metrics")
            with Container(id="compare-side"):
                yield CompareSettings(choice, id="compare-settings")
                yield CompareCurves(choice, id="compare-curves")
        yield CompareWorst(choice, id="compare-worst")

    def lay_out(self, width: int, height: int) -> None:
        """Fit the panels to `width` x `height` cells."""
        wide = width >= WIDE_FROM
        self.set_class(not wide, "narrow")
        self.set_class(height < _CURVES_FROM, "low")
        for panel in self.query(Panel):
            panel.compact = not wide
            panel.top = "┌┐" if panel.id in _FIRST else "├┤"
        self.query_one(CompareHead).styles.height = 4 if height >= _TALL_FROM else 3
        self.query_one(CompareMetrics).styles.width = _METRICS_WIDTH if wide else "1fr"
        changes = len(self._choice.comparison.config)
        self.query_one(CompareSettings).styles.height = min(max(2, changes + 1), height // 3)
        worst = self.query_one(CompareWorst)
        worst.joints = (_METRICS_WIDTH - 1, _METRICS_WIDTH) if wide else ()
        worst.bottom = "└┘"
        worst.styles.height = max(3, min(_WORST_HEIGHT, (height + 2) // 4))

    def move(self, by: int) -> None:
        """`by` rows on, in the metrics where they have the focus, else in the requests."""
        if self.query_one(CompareMetrics).has_focus:
            self.scroll_metrics(by)
        else:
            self.scroll_worst(by)

    def scroll_metrics(self, by: int) -> None:
        self.query_one(CompareMetrics).scroll(by)

    def scroll_worst(self, by: int) -> None:
        self._choice.move(by)

    def other_table(self) -> None:
        metrics = self.query_one(CompareMetrics)
        (self.query_one(CompareWorst) if metrics.has_focus else metrics).focus()
