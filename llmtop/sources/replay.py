"""A recorded session as a source: the same events, folded again at any speed."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from llmtop.errors import LlmtopError
from llmtop.sources.base import Player
from llmtop.viewmodel import Connection, Playback
from profiler.events import AnyEvent, Step
from profiler.session.reader import SessionReader
from profiler.state import SessionState, time_of

SLOWEST: Final = 0.25
FASTEST: Final = 16.0
_NS_PER_S: Final = 1_000_000_000
# Playing on over a longer stretch than this costs more than going there by a keyframe.
_LEAP_NS: Final = 20 * _NS_PER_S
_EXPECTED: Final = "1:30, 90s, 50% or step 1200"


class ReplaySource:
    """Is also its own player. Positions are on the recording host's monotonic clock."""

    mode: Literal["REPLAY"] = "REPLAY"

    def __init__(self, path: Path, at: str | None = None, speed: float = 1.0) -> None:
        """Raises: SessionFileError, LlmtopError if `at` is no place in the session."""
        self._path = path
        self._reader = SessionReader(path)
        self._markers = tuple((m.t_ns, m.glyph, m.text) for m in self._reader.markers())
        self._t_ns = self._reader.start_ns
        self._speed = max(SLOWEST, min(FASTEST, speed))
        self._playing = True
        self._loop = False
        self._polled_ns: int | None = None
        self._state = SessionState()
        self._tape: Iterator[tuple[int, AnyEvent]] = iter(())
        self._ahead: tuple[int, AnyEvent] | None = None
        self._jump(self._t_ns)
        if at is not None and (error := self.go_to(at)):
            raise LlmtopError(f"{at!r} is no place in the session: {error}")

    @property
    def address(self) -> str:
        return self._path.name

    @property
    def connection(self) -> Connection:
        return Connection("connected")

    @property
    def bytes_recorded(self) -> int | None:
        return self._path.stat().st_size

    @property
    def farewell(self) -> str:
        return ""

    @property
    def player(self) -> Player:
        return self

    @property
    def playback(self) -> Playback:
        return Playback(
            start_ns=self._reader.start_ns,
            end_ns=self._reader.end_ns,
            t_ns=self._t_ns,
            speed=self._speed,
            playing=self._playing,
            looping=self._loop,
            markers=self._markers,
        )

    def start(self) -> None:
        pass

    def stop(self) -> None:
        self._reader.close()

    def poll(self, now_ns: int) -> SessionState:
        passed_ns = 0 if self._polled_ns is None else now_ns - self._polled_ns
        self._polled_ns = now_ns
        if self._playing:
            self._play_on(round(passed_ns * self._speed))
        return self._state

    def _play_on(self, by_ns: int) -> None:
        end_ns = self._reader.end_ns
        if self._t_ns + by_ns < end_ns:
            self._run_to(self._t_ns + by_ns)
        elif self._loop:
            self._jump(self._reader.start_ns)
        else:
            self._run_to(end_ns)
            self._playing = False

    def _run_to(self, t_ns: int) -> None:
        """Fold what happened up to `t_ns`, which is not before the state."""
        while self._ahead is not None and time_of(self._ahead[1]) <= t_ns:
            self._fold_one()
        self._state.advance(t_ns)
        self._t_ns = t_ns

    def _fold_one(self) -> AnyEvent:
        assert self._ahead is not None
        seq, event = self._ahead
        self._state.apply(event, seq)
        self._ahead = next(self._tape, None)
        return event

    def _jump(self, t_ns: int) -> None:
        self._state = self._reader.state_at(t_ns)
        self._tape = self._reader.events(self._state.seq)
        self._ahead = next(self._tape, None)
        self._t_ns = t_ns

    def toggle(self) -> None:
        if not self._playing and self._t_ns >= self._reader.end_ns:
            self._reader.refresh()
            self._jump(self._reader.start_ns)
        self._playing = not self._playing

    def seek(self, t_ns: int) -> None:
        t_ns = max(self._reader.start_ns, min(self._reader.end_ns, t_ns))
        if self._t_ns <= t_ns <= self._t_ns + _LEAP_NS:
            self._run_to(t_ns)
        else:
            self._jump(t_ns)

    def step(self, by: int) -> None:
        self._playing = False
        if by > 0:
            self._one_step_on()
            return
        before = self._state.steps.newest(2)
        if len(before) == 2:
            self.seek(before[0].end_ns)

    def _one_step_on(self) -> None:
        while self._ahead is not None:
            event = self._fold_one()
            if isinstance(event, Step):
                self._run_to(event.end_ns)
                return

    def mark(self, by: int) -> None:
        times = [t_ns for t_ns, _, _ in self._markers]
        after = bisect_right(times, self._t_ns) if by > 0 else bisect_left(times, self._t_ns) - 1
        if 0 <= after < len(times):
            self.seek(times[after])

    def repeat(self) -> None:
        self._loop = not self._loop

    def faster(self, by: int) -> None:
        self._speed = max(SLOWEST, min(FASTEST, self._speed * 2.0**by))

    def go_to(self, text: str) -> str:
        wanted = text.strip().lower()
        if match := re.fullmatch(r"step\s*(\d{1,18})", wanted):
            return self._go_to_step(int(match[1]))
        offset_ns = self._offset_ns(wanted)
        if offset_ns is None:
            return f"write {_EXPECTED}"
        length_ns = self._reader.end_ns - self._reader.start_ns
        if offset_ns > length_ns:
            return f"the session lasts {length_ns / _NS_PER_S:.0f} s"
        self.seek(self._reader.start_ns + offset_ns)
        return ""

    def _go_to_step(self, number: int) -> str:
        step = self._reader.step(number)
        if step is None:
            return f"no step {number} was recorded"
        self._playing = False
        self.seek(step.end_ns)
        return ""

    def _offset_ns(self, text: str) -> int | None:
        """From the start of the session; None if `text` is no such place."""
        if match := re.fullmatch(r"(\d{1,3}(?:\.\d+)?)\s*%", text):
            share = min(100.0, float(match[1])) / 100
            return round(share * (self._reader.end_ns - self._reader.start_ns))
        if match := re.fullmatch(r"(?:(\d{1,4}):)?(\d{1,4}):(\d{1,2}(?:\.\d+)?)", text):
            hours, minutes, seconds = match[1] or "0", match[2], match[3]
            return round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * _NS_PER_S)
        if match := re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*s?", text):
            return round(float(match[1]) * _NS_PER_S)
        return None
