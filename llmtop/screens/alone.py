"""One panel on the whole page, and the way back."""

from __future__ import annotations

from textual.containers import Container
from textual.css.styles import RulesMap
from textual.widget import Widget

from llmtop.widgets.painted import Painted
from llmtop.widgets.panel import Panel


class Alone:
    """Hides all of `page` but `panel` and what holds it. `undo` gives every widget its own
    styles back; the page then lays itself out for the size that it has by then.
    """

    def __init__(self, page: Widget, panel: Panel) -> None:
        self._before: list[tuple[Widget, RulesMap]] = []
        self._panel = panel
        self._looks = (panel.top, panel.bottom, panel.compact, panel.joints)
        kept = {panel, *panel.ancestors}
        for widget in page.query("*"):
            if isinstance(widget, Painted | Container):
                self._before.append((widget, widget.styles.inline.get_rules()))
                widget.display = widget in kept
                if widget in kept:
                    widget.styles.width = widget.styles.height = "1fr"
        panel.top, panel.bottom, panel.compact, panel.joints = "┌┐", "└┘", False, ()

    def undo(self) -> None:
        for widget, rules in self._before:
            widget.styles.inline.reset()
            widget.styles.inline.merge_rules(rules)
            widget.refresh(layout=True)
        panel = self._panel
        panel.top, panel.bottom, panel.compact, panel.joints = self._looks
