"""The run: engines asked in turns, row by row, until the rows or the time are spent."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine_process import EngineFailed, EngineProcess
from gpu import Gpu
from rows import Row
from summary import Sample, summarise

Start = Callable[[str, float], EngineProcess]


@dataclass
class Results:
    """What is known so far; `on_change` is called with it after each row."""

    on_change: Callable[[Results], None]
    engines: dict[str, dict[str, Any]] = field(default_factory=dict)
    samples: list[dict[str, Any]] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def fail(self, what: str) -> None:
        self.failures.append(what)
        say(what)

    def take(self, row: Row, engine: str, sample: Sample) -> None:
        named = {"section": row.section, "row": row.label, "engine": engine}
        self.samples.append(named | sample)

    def end(self, row: Row, engines: Sequence[str]) -> None:
        """Sums up a row whose samples are all there."""
        for engine in engines:
            place = (row.section, row.label, engine)
            own = [s for s in self.samples if (s["section"], s["row"], s["engine"]) == place]
            if own:
                self.lines.append(summarise(row, engine, own))
        self.on_change(self)


class Turns:
    """Takes every engine through the rows. One that fails at a row goes on with the next."""

    def __init__(self, rounds: int, deadline: float, results: Results) -> None:
        self._rounds = rounds
        self._deadline = deadline
        self._results = results
        self._gpu = Gpu()

    def run(self, names: Sequence[str], start: Start, rows: Sequence[Row]) -> None:
        """Loads these engines, one after the other, and asks them for each row in turns."""
        engines: list[EngineProcess] = []
        try:
            for name in names:
                engines += self._started(name, start)
            for row in rows:
                if time.monotonic() >= self._deadline:
                    self._results.fail(f"time is up before {row.section} {row.label}")
                    break
                self._row(row, [engine for engine in engines if engine.is_alive])
        finally:
            for engine in engines:
                engine.close()

    def _started(self, name: str, start: Start) -> list[EngineProcess]:
        say(f"{name}: loading")
        try:
            engine = start(name, self._deadline)
        except EngineFailed as failure:
            self._results.fail(f"{name} is left out: {failure}")
            return []
        say(f"{name}: {engine.facts}")
        self._results.engines[name] = engine.facts
        return [engine]

    def _row(self, row: Row, engines: list[EngineProcess]) -> None:
        able = [e for e in engines if self._asked(e, row, warm_up=True) is not None]
        for number in range(self._rounds):
            # Forwards, then backwards: no engine always comes first.
            for engine in list(able if number % 2 == 0 else able[::-1]):
                sample = self._asked(engine, row)
                if sample is None:
                    able.remove(engine)
                else:
                    sample |= {"round": number} | self._gpu.now()
                    self._results.take(row, engine.name, sample)
        self._results.end(row, [engine.name for engine in engines])

    def _asked(self, engine: EngineProcess, row: Row, warm_up: bool = False) -> Sample | None:
        """One sample; None where the engine cannot give it, which is said once."""
        where = f"{row.section} {row.label}: {engine.name}"
        try:
            if warm_up and row.section == "stall":
                return {}  # its streams decode for a while before anything is counted
            sample = engine.ask(row.order, self._deadline)
            if row.prefill is not None and "skipped" not in sample and not warm_up:
                sample["prefill_s"] = engine.ask(row.prefill, self._deadline)["seconds"]
        except EngineFailed as failure:
            self._results.fail(f"{where}: {failure}")
            return None
        if "skipped" in sample:
            self._results.fail(f"{where}: {sample['skipped']}")
            return None
        say(f"{where}{' (warm-up)' if warm_up else ''}: {_shown(sample)}")
        return sample


def _shown(sample: Sample) -> str:
    numbers = {k: round(v, 4) if isinstance(v, float) else v for k, v in sample.items()}
    return " ".join(f"{name}={value}" for name, value in numbers.items())


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)
