"""A panel that is asked for its words before it has a size, or when it has lost it, has some."""

from __future__ import annotations

from typing import Any

import pytest
from textual.geometry import Size

from llmtop.app import LlmtopApp
from llmtop.viewmodel import Connection, View
from llmtop.widgets.panel import Panel
from llmtop.widgets.stepcolumns import window


@pytest.mark.parametrize("size", [(0, 0), (1, 1), (3, 2), (5, 3)])
async def test_every_panel_bears_any_size(
    busy_source: Any, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        view = View(busy_source.state, app.model, "LIVE", Connection("connected"))
        view.model.step = busy_source.state.steps.last.step - 40
        view.model.selected = next(iter(busy_source.state.requests.live))
        panels = list(app.screen.query(Panel))
        assert len(panels) > 30
        monkeypatch.setattr(Panel, "size", property(lambda panel: Size(*size)))
        for panel in panels:
            panel.title(view)
            panel.note(view)
            assert all(width >= 0 for width in panel.inner)
            panel.rows(view, *size)
        assert window(view, -4) == window(view, 0) == ([], 0)
        monkeypatch.undo()
