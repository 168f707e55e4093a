"""Before the server is ready: its phases, and what it says."""

from __future__ import annotations

from textual.app import ComposeResult

from llmtop.screens.page import Page
from llmtop.widgets.happenings import Happenings
from llmtop.widgets.startup import Startup


class StartupPage(Page):
    DEFAULT_CSS = "StartupPage > Startup { height: 2fr; } StartupPage > Happenings { height: 1fr; }"

    def compose(self) -> ComposeResult:
        yield Startup(id="startup-phases")
        yield Happenings(id="startup-log", top="├┤", bottom="└┘")
