"""Takes the picture that a frame is painted from, and holds it still while paused."""

from __future__ import annotations

from llmtop.alarm import Alarm
from llmtop.cost import CostMeter
from llmtop.sources.base import Source
from llmtop.viewmodel import View, ViewModel
from profiler.state import SessionState


class Picture:
    """A pause copies the state: collecting goes on, the copy stays as it is."""

    def __init__(self, source: Source, model: ViewModel, alarm: Alarm) -> None:
        self._source = source
        self._alarm = alarm
        self._model = model
        self._meter = CostMeter()
        self._held: SessionState | None = None
        self._live: SessionState | None = None

    @property
    def held(self) -> bool:
        return self._held is not None

    def hold(self) -> None:
        """Pause if the picture moves, else let it go on."""
        if self._held is not None or self._live is None:
            self._held = None
            return
        self._held = SessionState.restore(self._live.keyframe())

    def take(self, now_ns: int) -> View:
        source = self._source
        self._live = live = source.poll(now_ns)
        player = source.player
        state = self._held or live
        news = self._alarm.look(live)
        return View(
            state=state,
            model=self._model,
            mode=source.mode,
            connection=source.connection,
            behind_ns=None if self._held is None else live.t_ns - self._held.t_ns,
            bytes_recorded=source.bytes_recorded,
            address=source.address,
            cost=self._meter.read(now_ns),
            playback=None if player is None else player.playback,
            objectives=self._alarm.objectives(state),
            findings=tuple(self._alarm.findings(state)),
            news=tuple(news),
        )
