"""The help is the registry: every key is in it, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest

from llmtop.app import LlmtopApp
from llmtop.columns import FIELDS
from llmtop.keys import KEYS, Keymap
from llmtop.widgets.helptext import help_rows
from llmtop.widgets.rows import plain, width_of

TextOf = Callable[[Any], str]


@pytest.mark.parametrize("mode", ["live", "replay"])
@pytest.mark.parametrize("width", [56, 76, 116, 180])
def test_every_key_of_the_mode_is_explained_at_every_width(mode: str, width: int) -> None:
    rows = help_rows(Keymap(), mode, width)
    text = "\n".join(plain(row) for row in rows)
    for key in KEYS:
        assert (key.help in text) == (key.mode in ("any", mode)), key
    assert all(field.help in text for field in FIELDS.values())
    assert all(width_of(row) <= width for row in rows)


async def test_help_opens_scrolls_and_closes(busy_source: Any, text_of: TextOf) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        assert "the whole service at a glance" in text_of(app)
        assert "j k scroll" in text_of(app)
        await pilot.press("end")
        await pilot.pause()
        assert "not known; 0 is zero" in text_of(app)
        await pilot.press("q")
        await pilot.pause()
        assert "Service" in text_of(app) or "run" in text_of(app)
        assert len(app.screen_stack) == 2
