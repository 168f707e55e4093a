"""The bus of a server process, and all who watch it: state, stream, samplers, recording."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

from engine.server.event_feed import EventFeed
from engine.server.process_meter import ProcessMeter
from llmtop.alarm import Alarm
from llmtop.backlog import Backlog
from llmtop.commands.session_files import new_session
from llmtop.log_relay import log_line
from llmtop.paths import sessions_dir
from llmtop.serving_config import ServeConfig
from llmtop.webhook import Webhook
from profiler.bus import Bus
from profiler.events import AnyEvent, GpuAbsent, ObserverCost
from profiler.findings.watch import Watch
from profiler.follower import Follower
from profiler.gpu import GpuSampler
from profiler.session.recorder import Recorder

BEAT_S: Final = 0.25
SAMPLE_EVERY: Final = 4  # beats
# An event takes 10 to 40 us to fold: what comes meanwhile waits for a few of them, not for all that
# are new. Seldom: beside an engine's threads every wake costs.
FOLD_S: Final = 0.25
FOLD_EVENTS: Final = 8
METRICS_NS: Final = 500_000_000


class Observer:
    """Publishes what happens. Lives on the event loop; `publish_soon` may be called anywhere.

    `hear` is told each event too, observed or not: it is what a server without dashboard says.
    Once a second `behind` is asked for clients that do not take what is sent to them. `no_device`
    says why the devices of this machine are none of the server's, where that is so.
    """

    def __init__(
        self,
        hear: Callable[[AnyEvent], None],
        recording: Path | None,
        *,
        behind: Callable[[], Sequence[AnyEvent]] = tuple,
        observe: bool = True,
        alert_webhook: str | None = None,
        no_device: str = "",
    ) -> None:
        self.session = uuid4().hex
        self._observe = observe
        self._hear = hear
        self._behind = behind
        self._bus = Bus()
        self._backlog = Backlog(self._bus.publish)
        publish = self._backlog.publish
        self._follower = Follower(self._bus, watch=Watch(), publish=publish)
        webhook = None if alert_webhook is None else Webhook(alert_webhook, self._complain)
        self._alarm = Alarm(webhook=webhook)
        self.feed = EventFeed(self._bus, self._follower.keyframe)
        self._recorder: Recorder | None = None
        if recording is not None:
            self._recorder = Recorder(recording, self._bus, self._follower, self._tell_recording)
        self._no_device = no_device
        self._gpus = GpuSampler(publish, self._pids)
        self._loop = asyncio.get_running_loop()
        self._page = b""
        self._page_ns = 0
        self._meters: dict[int, ProcessMeter] = {}  # by process id
        self._beating: asyncio.Task[None] | None = None
        self._folding: asyncio.Handle | None = None

    @property
    def recording(self) -> Path | None:
        """The session file that is being written."""
        recorder = self._recorder
        return recorder.path if recorder is not None and recorder.error is None else None

    def start(self, pids: dict[str, int]) -> None:
        """Begins to record, and to sample these processes, by role, and the devices."""
        if self._recorder is not None:
            self._recorder.start()
        if self._observe:
            self._watch_devices()
            self._meters = {pid: ProcessMeter(role, pid) for role, pid in pids.items()}
            self._beating = asyncio.create_task(self._beat())

    def _watch_devices(self) -> None:
        if self._no_device:
            self.publish(GpuAbsent(time.monotonic_ns(), self._no_device))
        else:
            self._gpus.start()

    def publish(self, event: AnyEvent) -> None:
        self._hear(event)
        if self._observe:
            self._backlog.publish(event)
            self._wake()

    def hear_core(self, events: list[AnyEvent]) -> None:
        """Publishes what the core tells, also late: then what others told meanwhile goes between,
        where it belongs."""
        told = next((e for e in reversed(events) if isinstance(e, ObserverCost)), None)
        if told is None:
            for event in events:
                self.publish(event)
            return
        for event in events:
            self._hear(event)
        self._backlog.end(events)
        if told.withholds:
            self._backlog.begin()
        self._wake()

    def wait_no_longer(self) -> None:
        """Publishes what has waited for the core to tell what it did: it may never do so."""
        self._backlog.end()

    def publish_soon(self, event: AnyEvent) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody watches any more
            self._loop.call_soon_threadsafe(self.publish, event)

    def log(self, level: str, source: str, text: str) -> None:
        self.publish(log_line(level, source, text))

    def metrics(self) -> bytes:
        """A Prometheus page that is at most half a second old."""
        from profiler.prometheus import render

        now_ns = time.monotonic_ns()
        if not self._page or now_ns - self._page_ns > METRICS_NS:
            with self._follower.read() as state:
                self._page = render(state)
            self._page_ns = now_ns
        return self._page

    async def stop(self) -> None:
        """Ends the stream and the recording, with all that was published."""
        self.wait_no_longer()
        if self._beating is not None:
            self._beating.cancel()
        await asyncio.to_thread(self._gpus.stop)
        if self._observe:
            await asyncio.to_thread(self._tell_findings)
        await asyncio.to_thread(self._alarm.close)
        self.feed.close()
        if self._recorder is not None:
            await asyncio.to_thread(self._recorder.stop)

    async def _beat(self) -> None:
        """Looks now and then what the processes use, and what was found."""
        beats = 0
        while True:
            if beats % SAMPLE_EVERY == 0:
                self._sample()
            await asyncio.to_thread(self._tell_findings)
            self.feed.wake()  # the samplers and the recorder publish from threads of their own
            beats += 1
            await asyncio.sleep(BEAT_S)

    def _wake(self) -> None:
        """Who reads the stream, and who folds it."""
        self.feed.wake()
        if self._folding is None:
            self._folding = self._loop.call_later(FOLD_S, self._fold)

    def _fold(self) -> None:
        more = self._follower.fold(FOLD_EVENTS)
        self._folding = self._loop.call_soon(self._fold) if more else None

    def _tell_findings(self) -> None:
        """Fold what is left, and tell what was found. In a thread: the recorder may hold the
        follower for longer than the event loop is to wait."""
        with self._follower.read() as state:
            news = self._alarm.look(state)
        for finding in news:
            self._loop.call_soon_threadsafe(self._hear, finding)

    def _complain(self, text: str) -> None:
        """From the webhook's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody watches any more
            self._loop.call_soon_threadsafe(self.log, "warning", "server", text)

    def _tell_recording(self, event: AnyEvent) -> None:
        """From the recorder's thread."""
        self._hear(event)
        self._backlog.publish(event)

    def _pids(self) -> Collection[int]:
        return self._meters.keys()

    def _sample(self) -> None:
        now_ns = time.monotonic_ns()
        for meter in self._meters.values():
            sample = meter.sample(now_ns)
            if sample is not None:
                self.publish(sample)
        for event in self._behind():
            self.publish(event)


def recording_path(config: ServeConfig) -> Path | None:
    """The file that a server is to record into, None for none."""
    if not config.record or not config.observe:
        return None
    if config.session_path is not None:
        return Path(config.session_path)
    return new_session(sessions_dir(), config.engine.model, datetime.now())
