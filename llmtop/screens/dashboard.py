"""The one screen behind all tabs: title, tabs, the current page, replay bar and footer."""

from __future__ import annotations

from typing import Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.message import Message

from llmtop.compositor import DirectCompositor, forget_removed
from llmtop.errors import LlmtopError
from llmtop.keys import KEYS
from llmtop.paths import exports_dir
from llmtop.sanitize import clean_line
from llmtop.screens.blocks import BlocksPage
from llmtop.screens.choosing import page_for
from llmtop.screens.compare_page import ComparePage
from llmtop.screens.fleet import FleetPage
from llmtop.screens.foreign import ForeignAbsentPage, ForeignGpuPage, ForeignPage
from llmtop.screens.gpu import GpuPage
from llmtop.screens.help import HelpScreen
from llmtop.screens.kv import KvPage
from llmtop.screens.load import LoadControl
from llmtop.screens.log import LogPage
from llmtop.screens.orderkeys import OrderKeys
from llmtop.screens.overview import OverviewPage
from llmtop.screens.page import Page
from llmtop.screens.prompt import PromptScreen
from llmtop.screens.requests import RequestsPage
from llmtop.screens.sheet import LiveSheet
from llmtop.screens.startup import StartupPage
from llmtop.screens.steps import StepsPage
from llmtop.screens.timekeys import TimeKeys
from llmtop.sources.base import Player, Source
from llmtop.viewing import Viewing
from llmtop.viewmodel import View, ViewModel
from llmtop.widgets.commandline import CommandLine
from llmtop.widgets.holders import Holders
from llmtop.widgets.painted import Painted
from llmtop.widgets.panel import Panel
from llmtop.widgets.replaybar import ReplayBar
from llmtop.widgets.requesttable import RequestTable
from llmtop.widgets.strips import Footer, PressStrip, Tabs
from llmtop.widgets.titlebar import TitleBar
from llmtop.widgets.toosmall import MIN_HEIGHT, MIN_WIDTH, TooSmall

_FILTER_HINT: Final = "ttft>200 & phase==decode"
_LOG_HINT: Final = "a regular expression"


class Dashboard(TimeKeys, OrderKeys):
    """Turns keys into changes of the view model and paints what `show` is given."""

    AUTO_FOCUS = ""  # no panel has the focus until a key or a click gives it one

    class KeepAsked(Message):
        """Have what the ring holds in a session file."""

    CSS = """
    Dashboard { layout: vertical; }
    Dashboard > #pages { height: 1fr; }
    Dashboard Page, Dashboard > TooSmall { display: none; }
    Dashboard > Footer.away { display: none; }
    Dashboard > ReplayBar { display: none; }
    Dashboard > ReplayBar.past { display: block; }
    Dashboard.tiny > ReplayBar { display: none; }
    Dashboard.tiny > * { display: none; }
    Dashboard.tiny > TooSmall { display: block; }
    """
    # Of two that share a key the first that `check_action` lets pass is done.
    BINDINGS = [  # noqa: RUF012
        Binding(key.keys, key.action, key.label, show=False, id=key.name)
        for key in sorted(KEYS, key=lambda key: key.mode != "fleet")
    ]

    def __init__(
        self,
        model: ViewModel,
        player: Player,
        source: Source,
        base_url: str,
        api_key: str | None,
        viewing: Viewing,
    ) -> None:
        super().__init__()
        self._compositor = DirectCompositor()
        self._model = model
        self._player = player
        self._replay = source.replay
        self._viewing = viewing
        self._server = (base_url, api_key)
        self._load = LoadControl(base_url, api_key) if base_url else None
        self._load_waits = False
        self._view: View | None = None
        self._pages: dict[str, Page] = {
            "startup": StartupPage(id="startup"),
            "overview": OverviewPage(id="overview"),
            "requests": RequestsPage(id="requests"),
            "kv": KvPage(id="kv"),
            "gpu": GpuPage(id="gpu"),
            "steps": StepsPage(id="steps"),
            "log": LogPage(id="log"),
            "foreign": ForeignPage(id="foreign"),
            "fleet": FleetPage(id="fleet"),
            "foreign-gpus-page": ForeignGpuPage(id="foreign-gpus-page"),
            "blocks": BlocksPage(id="blocks"),
            "foreign-absent": ForeignAbsentPage(id="foreign-absent-page"),
            "compare": ComparePage(source, id="compare"),
        }
        self._page: Page | None = None

    def compose(self) -> ComposeResult:
        yield TitleBar(id="title")
        yield Tabs(id="tabs")
        with Container(id="pages"):
            yield from self._pages.values()
        yield ReplayBar(id="replay")
        yield CommandLine(id="command")
        yield Footer(id="footer")
        yield TooSmall(id="small")

    def show(self, view: View) -> None:
        """Paint `view` on everything that is on the screen."""
        self._view = view = view.focused
        self.query_children(ReplayBar).set_class(view.playback is not None, "past")
        self._model.load = self._load_news(view)
        page = self._current(view)
        page.show(view)
        for painted in self.query_children(Painted):
            if painted.display:
                painted.paint(view)
            else:
                painted.forget()
        # A frame may come when no screen is left, as the program ends.
        for screen in self.app.screen_stack:
            if isinstance(screen, LiveSheet):
                screen.show(view)

    def _load_news(self, view: View) -> str:
        """What to say of the load; one that was asked for during start-up begins with "ready"."""
        if self._load is None:
            return ""
        if self._load_waits and not view.starting:
            self._load_waits = False
            self._load.toggle()
        if self._load_waits:
            return "starts once the server is ready"
        return self._model.privacy.text(self._load.error) or self._load.text()

    def repaint(self) -> None:
        """Paint the last picture again, since what the viewer chose has changed."""
        if self._view is not None:
            self.show(self._view)

    def close(self) -> None:
        if self._load is not None:
            self._load.close()

    def _current(self, view: View) -> Page:
        wanted = page_for(view)
        if self._page is None or self._page is not self._pages[wanted]:
            if self._page is not None:
                self._page.leave()
            self._page = self._pages[wanted]
            self._page.display = True
            if not self.asking:
                self.set_focus(None)
        return self._page

    def on_screen_resume(self) -> None:
        forget_removed()  # a sheet over the tabs was closed

    def on_resize(self) -> None:
        width, height = self.app.size
        self.set_class(width < MIN_WIDTH or height < MIN_HEIGHT, "tiny")
        self.call_after_refresh(self.repaint)

    # Screens

    def action_page(self, page: str) -> None:
        self._model.page = page
        self._model.detail = self._model.detail and page == "requests"
        self.repaint()

    def action_target(self, target: int) -> None:
        if self._view is not None:
            self._model.open_target(self._view.state, target)
            self.repaint()

    def action_fleet_log(self) -> None:
        self.action_page("log")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        several = self._view is not None and bool(self._view.state.fleet.replicas)
        return several or action not in ("target", "fleet_log")

    def action_focus_pane(self, by: int) -> None:
        panels = [] if self._page is None else self._page.panels()
        if not panels:
            return
        focused = self.focused
        at = panels.index(focused) + by if focused in panels else (0 if by > 0 else -1)
        panels[at % len(panels)].focus()

    def action_maximise(self) -> None:
        if self._page is None:
            return
        if self._page.maximised:
            self._page.maximise(None)
        elif isinstance(self.focused, Panel):
            self._page.maximise(self.focused)
        else:
            self.notify(f"{self._model.keymap.shown('next-panel')} chooses a panel first")
        self.call_after_refresh(self.repaint)

    # Moving

    def _on_page(self, action: str, by: int) -> None:
        if self._page is not None and self._view is not None:
            getattr(self._page, action)(self._view, by)
            self.repaint()

    def action_move(self, by: int) -> None:
        self._on_page("move", by)

    def action_slide(self, by: int) -> None:
        self._on_page("slide", by)

    def action_next(self, by: int) -> None:
        self._on_page("next", by)

    def action_zoom(self, by: int) -> None:
        self._on_page("zoom", by)

    def action_open(self) -> None:
        if self._page is not None and self._view is not None:
            self._page.open(self._view)
            self.repaint()

    def action_back(self) -> None:
        if self._page is None or self._view is None:
            return
        if self._page.maximised:
            self.action_maximise()
        elif not self._page.back(self._view):
            if not self._model.deselect():
                self._model.set_filter("")
        self.repaint()

    # Table and panels

    def action_filter(self) -> None:
        model = self._model
        if model.page == "log":
            self._ask("filter /", model.log_filter, _LOG_HINT, self._try_log_filter, live=True)
        else:
            self._ask("filter /", model.filter_text, _FILTER_HINT, self._try_filter, live=True)

    def _try_filter(self, text: str) -> str:
        error = self._model.set_filter(text)
        self.repaint()
        return error

    def _try_log_filter(self, text: str) -> str:
        error = self._model.set_log_filter(text)
        self.repaint()
        return error

    def action_sort(self, by: int) -> None:
        self._model.next_sort(by)
        self.repaint()

    def action_reverse(self) -> None:
        self._model.descending = not self._model.descending
        self.repaint()

    def action_chart(self, by: int) -> None:
        self._on_page("chart", by)

    def action_colouring(self) -> None:
        session = None if self._view is None else self._view.state.session
        self._model.next_colouring(session is not None and session.packing is not None)
        self.repaint()

    def action_level(self) -> None:
        self._model.next_level()
        self.repaint()

    def action_compare(self, order: str) -> None:
        if isinstance(self._page, ComparePage):
            self._page.order(order)
            self.repaint()

    # Server

    def action_load(self) -> None:
        if self._load is None or self._view is None:
            return
        if self._view.starting:
            self._load_waits = not self._load_waits
        else:
            self._load.toggle()
        self.repaint()

    def action_prompt(self) -> None:
        base_url, api_key = self._server
        if base_url:
            self.app.push_screen(PromptScreen(base_url, api_key, self._model.privacy))

    def action_keep(self) -> None:
        self.post_message(self.KeepAsked())

    # Program

    def action_export(self) -> None:
        forms = () if self._page is None else self._page.forms()
        if forms:
            self._ask("export as", forms[0], " or ".join(forms), self._try_export, live=False)
        else:
            self.notify("nothing to export: no recording has been chosen yet")

    def _try_export(self, text: str) -> str:
        form, page = text.strip().lower(), self._page
        if page is None or self._view is None or form not in page.forms():
            return f"write {' or '.join(page.forms() if page else ())}"
        try:
            path = page.save(self._view, form, exports_dir())
        except LlmtopError as error:
            return self._model.privacy.text(error.message)
        self.notify(f"saved {path}")
        return ""

    def action_copy(self) -> None:
        """By OSC 52, which a terminal passes on even over ssh."""
        request = None if self._view is None else self._view.request
        if request is None:
            self.notify("no request is selected: choose one with j and k", severity="warning")
            return
        name = clean_line(request.name)
        self.app.copy_to_clipboard(name)
        self.notify(f"copied {name}")

    def action_help(self) -> None:
        live = "fleet" if self.check_action("fleet_log", ()) else "live"
        mode = live if self._replay is None else "replay"
        self.app.push_screen(HelpScreen(self._model.keymap, mode, self.focused))

    # Mouse

    @on(PressStrip.Pressed)
    async def _pressed(self, event: PressStrip.Pressed) -> None:
        await self.run_action(event.action)

    @on(Panel.Wheeled)
    def _wheeled(self, event: Panel.Wheeled) -> None:
        self._on_page(event.action, event.by)

    @on(Page.Chosen)
    def _chosen(self) -> None:
        self.repaint()

    @on(RequestTable.Picked)
    @on(Holders.Picked)
    def _picked(self, event: RequestTable.Picked | Holders.Picked) -> None:
        self._model.selected = event.request
        if event.again:
            self._model.open_request()
        self.repaint()

    @on(RequestTable.SortPicked)
    def _sort_picked(self, event: RequestTable.SortPicked) -> None:
        if self._model.sort == event.field:
            self._model.descending = not self._model.descending
        self._model.sort = event.field
        self.repaint()
