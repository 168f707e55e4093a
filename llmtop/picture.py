"""Takes the picture that a frame is painted from."""

from __future__ import annotations

from llmtop.alarm import Alarm
from llmtop.cost import CostMeter
from llmtop.rewind import Rewind
from llmtop.sources.base import Player, Source
from llmtop.viewmodel import View, ViewModel
from profiler.session.ring import Ring


class Picture:
    """One time cursor for all screens: each frame is the state where `player` stands."""

    def __init__(self, source: Source, model: ViewModel, alarm: Alarm) -> None:
        self._source = source
        self._alarm = alarm
        self._model = model
        self._meter = CostMeter()
        self._rewind = Rewind(source.ring or Ring(), lambda: source.session_file)

    @property
    def player(self) -> Player:
        return self._source.replay or self._rewind

    def take(self, now_ns: int) -> View:
        source = self._source
        live = source.poll(now_ns)
        state = live if source.replay else self._rewind.show(live)
        news = self._alarm.look(live)
        mask = self._model.privacy
        return View(
            state=mask.state(state),
            model=self._model,
            mode=source.mode,
            connection=mask.connection(source.connection),
            behind_ns=self._rewind.behind_ns,
            bytes_recorded=source.bytes_recorded,
            address=mask.address(source.address),
            cost=self._meter.read(now_ns),
            playback=mask.playback(self.player.playback),
            objectives=self._alarm.objectives(state),
            findings=tuple(mask.findings(self._alarm.findings(state))),
            news=tuple(mask.findings(news)),
        )
