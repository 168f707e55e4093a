"""The keys that give orders to the engine, for the screen that has them."""

from __future__ import annotations

from llmtop.orders import order_capture, order_observer
from llmtop.screens.asking import AskingScreen
from llmtop.screens.kernels import KernelsScreen
from llmtop.screens.observer import ObserverScreen
from llmtop.sources.base import Replay
from llmtop.viewing import Viewing
from llmtop.viewmodel import View
from profiler.events import MAX_CAPTURED_STEPS


class OrderKeys(AskingScreen):
    """What the orders bring comes with the stream; a sheet over the tabs shows it. `_server` is the
    server's address, "" without one, and its API key."""

    _server: tuple[str, str | None]
    _replay: Replay | None
    _viewing: Viewing
    _view: View | None

    def action_kernels(self) -> None:
        refusal = self._viewing.capture_refusal
        if not self._server[0] or self._replay is not None:
            self._show_kernels(0)
        elif refusal:
            self.notify(refusal)
            self._show_kernels(0)
        else:
            # Measured on an H100: 0.1 s for 16 steps, 0.37 s for 64.
            hint = f"1 to {MAX_CAPTURED_STEPS}, at the end all wait ~6 ms a step; empty: the last"
            self._ask("capture kernels, steps", "16", hint, self._try_capture, live=False)

    def _try_capture(self, text: str) -> str:
        text = text.strip()
        if not text:
            self._show_kernels(0)
        elif not text.isdecimal() or not 1 <= int(text) <= MAX_CAPTURED_STEPS:
            return f"write a number from 1 to {MAX_CAPTURED_STEPS}"
        else:
            self.run_worker(self._capture(int(text)))
        return ""

    async def _capture(self, num_steps: int) -> None:
        since_ns = 1 if self._view is None else self._view.state.t_ns
        refusal = await order_capture(*self._server, num_steps)
        if refusal:
            self.notify(refusal, severity="warning")
        else:
            self._show_kernels(since_ns)

    def _show_kernels(self, since_ns: int) -> None:
        if self._view is not None:
            self.app.push_screen(KernelsScreen(self._view, since_ns))

    async def action_observer(self) -> None:
        """Has it measured what observing costs, where that may be, and shows what is known."""
        if self._view is None:
            return
        refusal = self._observer_refusal(self._view)
        if not refusal:
            refusal = await order_observer(*self._server, self._viewing.owner_key)
        self.app.push_screen(ObserverScreen(self._view, refusal))

    def _observer_refusal(self, view: View) -> str:
        if self._replay is not None:
            return "only a live engine can measure it, a recording shows what it measured"
        if not self._server[0] or view.state.foreign.last is not None or view.state.upstream:
            return "not measured: this is no engine of ours, and tells nothing of its steps"
        if view.starting:
            return "not measured: the engine is not ready"
        return self._viewing.observer_refusal
