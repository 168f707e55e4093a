"""The terminal: takes a picture four times a second and paints what changed."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from textual.actions import ActionParseResult
from textual.app import SystemCommand
from textual.dom import DOMNode
from textual.screen import Screen

from llmtop.alarm import Alarm
from llmtop.cost import Pace
from llmtop.errors import LlmtopError
from llmtop.keyfile import load_keymap
from llmtop.keys import Keymap
from llmtop.paths import pictures_dir
from llmtop.picture import Picture
from llmtop.priority import give_way
from llmtop.privacy import Privacy
from llmtop.screens.dashboard import Dashboard
from llmtop.screens.sheet import Sheet
from llmtop.sources.base import Source
from llmtop.themed import ThemedApp
from llmtop.viewfile import save_new
from llmtop.viewing import AS_IT_IS, Viewing
from llmtop.viewmodel import View, ViewModel
from llmtop.widgets.asciiset import AsciiFilter
from profiler.findings.objective import LEVEL as ALERT

FRAME_S: Final = 0.25
SLOW_FRAME_S: Final = 1.0


class LlmtopApp(ThemedApp[int]):
    """Watches `source` until the viewer leaves or the source fails; the result is an exit code.

    `base_url` and `api_key` are for load and prompts of the viewer's own; "" has none.
    """

    def __init__(
        self,
        source: Source,
        base_url: str = "",
        api_key: str | None = None,
        alarm: Alarm | None = None,
        keymap: Keymap | None = None,
        viewing: Viewing = AS_IT_IS,
    ) -> None:
        super().__init__(replace(keymap or Keymap(), readonly=viewing.readonly))
        self.source = source
        self._mode = "live" if source.replay is None else "replay"
        self.model = ViewModel(
            self.keymap, viewing.ascii, privacy=Privacy(viewing.privacy, source.address)
        )
        if viewing.ascii:
            self._filters.append(AsciiFilter())
        self._pace = Pace() if viewing.slow else None
        self._alarm = alarm or Alarm()
        self._picture = Picture(source, self.model, self._alarm)
        self._dashboard = Dashboard(
            self.model, self._picture.player, source, base_url, api_key, viewing
        )

    def on_mount(self) -> None:
        self.push_screen(self._dashboard)
        self.source.start()
        if not self.is_headless:
            give_way()  # only now: a server that the source has just started is to keep its place
        self.set_interval(SLOW_FRAME_S if self._pace else FRAME_S, self._tick)
        self.call_after_refresh(self.frame)

    def _tick(self) -> None:
        self.frame(self._pace is None or self._pace.may_paint(time.monotonic_ns()))

    def frame(self, painted: bool = True) -> None:
        """Take a picture and paint it. A source that failed ends the program."""
        view = self._picture.take(time.monotonic_ns())
        if painted:
            self._dashboard.show(view)
        self._sound(view)
        if self.source.connection.status == "failed":
            self.action_leave(1)

    def _sound(self, view: View) -> None:
        """A bell for an alert that happens now, what led to it kept, and a word when it cannot be
        passed on."""
        alerts = [f for f in view.news if f.level == ALERT and f.status == "open"]
        if alerts and view.mode == "LIVE":
            self.bell()
            if self.source.session_file is None:
                self.notify(self.source.keep())
        while self._alarm.complaints:
            self.notify(self._alarm.complaints.popleft(), severity="warning")

    def on_time_keys_moved(self) -> None:
        self.frame()

    def on_dashboard_keep_asked(self) -> None:
        self.notify(self.source.keep())

    def action_leave(self, code: int) -> None:
        self._dashboard.close()
        self._alarm.close()
        super().action_leave(code)

    def action_privacy(self) -> None:
        self.clear_notifications()
        self.model.toggle_privacy()
        self.frame()
        for screen in self.screen_stack:
            if isinstance(screen, Sheet):
                screen.lay_out()

    def notify(self, message: str, **options: Any) -> None:
        """Textual's, but what it says is masked where the picture is."""
        super().notify(self.model.privacy.text(message), **options)

    async def run_action(
        self,
        action: str | ActionParseResult,
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """Textual's, by which keys, clicks and the palette come, but what --readonly refuses."""
        refused = self.keymap.refused(action, self._mode)
        if refused is None:
            return await super().run_action(action, default_namespace, namespaces)
        self.notify(f"{refused.shown} {refused.label}: refused by --readonly")
        return True

    def action_picture(self) -> None:
        svg = self.export_screenshot(title="llmtop", simplify=True)
        try:
            path = save_new(pictures_dir(), f"{self.model.page}.svg", svg.encode())
        except LlmtopError as error:
            self.notify(error.message, severity="error")
        else:
            self.notify(f"saved {path}")

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        for key in self.keymap.offered(self._mode):
            yield SystemCommand(f"{key.label} ({key.shown})", key.help, self._runner(key.action))

    def _runner(self, action: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            await self._dashboard.run_action(action)

        return run


def run_app(
    source: Source,
    base_url: str = "",
    api_key: str | None = None,
    alarm: Alarm | None = None,
    viewing: Viewing = AS_IT_IS,
) -> int:
    """The exit code, once the viewer has left and the source has given everything back.

    Raises: LlmtopError when the source failed, with its last words, or keys.toml is wrong.
    """
    app = LlmtopApp(source, base_url, api_key, alarm, load_keymap(), viewing)
    try:
        code = app.run()
    finally:
        if source.farewell:
            print(source.farewell, file=sys.stderr, flush=True)
        source.stop()
    if source.connection.status == "failed":
        raise LlmtopError(source.connection.detail, source.connection.hint)
    return app.return_code or 0 if code is None else code
