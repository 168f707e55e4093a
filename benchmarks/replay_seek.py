"""How long replay takes to open and to seek, and its memory: a made-up hour is recorded first.

The session is written by the recorder's own path, 250 ms at a time on a driven clock. It is opened
and entered at random in a process of its own, by what `llmtop replay` uses: opening ends with the
first state and all markers in hand, a seek with the whole state. `--session` keeps the recording,
or takes the one that is there.

    python benchmarks/replay_seek.py --minutes 60 --steps-per-s 200 --out replay_seek.json
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from synthetic import Synthetic

from profiler.bus import Bus
from profiler.follower import Follower
from profiler.session.reader import SessionReader
from profiler.session.tape import Tape

START_NS: Final = 1_000_000_000_000
FLUSH_NS: Final = 250_000_000
GOAL_MS: Final = 100.0


@dataclass(frozen=True, slots=True)
class Result:
    minutes: float
    steps_per_s: float
    requests: int
    pages: int
    num_events: int
    write_us_per_event: float
    file_mib: float
    seeks: int
    p50_ms: float
    p95_ms: float
    max_ms: float
    max_cpu_ms: float
    open_ms: float


def record(path: Path, options: argparse.Namespace) -> tuple[int, float]:
    """Number of events written and the seconds it took, the making of the events left out."""
    step_ns = round(1e9 / options.steps_per_s)
    session = Synthetic(options.requests, options.pages, gpu=True, step_ns=step_ns)
    bus = Bus()
    tape = Tape(path, bus, Follower(bus))
    for event in session.start(START_NS, time.time_ns()):
        bus.publish(event)
    writing_s = 0.0
    end_ns = START_NS + round(options.minutes * 60e9)
    flush_ns = START_NS
    for t_ns in range(START_NS, end_ns, step_ns):
        for event in session.step(t_ns):
            bus.publish(event)
        if t_ns >= flush_ns:
            flush_ns = t_ns + FLUSH_NS
            began = time.process_time()
            tape.flush()
            writing_s += time.process_time() - began
    tape.finish()
    return bus.head, writing_s


def seek(path: Path, count: int) -> tuple[list[float], list[float], float]:
    """Milliseconds of each of `count` seeks by the wall and by the processor (which tells a busy
    machine from a slow seek), both sorted, and of opening the file."""
    began = time.perf_counter()
    reader = SessionReader(path)
    open_ms = (time.perf_counter() - began) * 1e3
    rng = random.Random(0)
    times, cpu_times = [], []
    for _ in range(count):
        t_ns = rng.randint(reader.start_ns, reader.end_ns)
        began, began_cpu = time.perf_counter(), time.thread_time()
        state = reader.state_at(t_ns)
        times.append((time.perf_counter() - began) * 1e3)
        cpu_times.append((time.thread_time() - began_cpu) * 1e3)
        assert state.t_ns == t_ns
    reader.close()
    return sorted(times), sorted(cpu_times), open_ms


def measure(options: argparse.Namespace, path: Path) -> Result:
    num_events, writing_s = record(path, options)
    times, cpu_times, open_ms = seek(path, options.seeks)
    return Result(
        options.minutes,
        options.steps_per_s,
        options.requests,
        options.pages,
        num_events,
        writing_s / num_events * 1e6,
        path.stat().st_size / (1 << 20),
        options.seeks,
        statistics.median(times),
        times[int(0.95 * len(times))],
        times[-1],
        cpu_times[-1],
        open_ms,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--steps-per-s", type=float, default=100)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--pages", type=int, default=16_384)
    parser.add_argument("--seeks", type=int, default=200)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, Path(folder) / "session.db")
    for name, value in asdict(result).items():
        print(f"{name:>20}  {value:,.2f}" if isinstance(value, float) else f"{name:>20}  {value:,}")
    print(f"{'goal':>20}  every seek within {GOAL_MS:.0f} ms: {result.max_ms <= GOAL_MS}")
    if options.out:
        options.out.write_text(json.dumps(asdict(result), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
