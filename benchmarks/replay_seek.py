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
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from synthetic import Synthetic

from llmtop.sources.replay import ReplaySource
from profiler.bus import Bus
from profiler.follower import Follower
from profiler.session.tape import Tape

START_NS: Final = 1_000_000_000_000
FLUSH_NS: Final = 250_000_000
GOAL_MS: Final = 100.0
GOAL_OPEN_MS: Final = 1000.0
GOAL_RSS_MIB: Final = 300.0


@dataclass(frozen=True, slots=True)
class Seeks:
    """By the wall and, the largest, by the processor too, which tells a busy machine from a slow
    seek. `rss_mib` is the most that the process ever took."""

    open_ms: float
    seeks: int
    p50_ms: float
    p95_ms: float
    max_ms: float
    max_cpu_ms: float
    rss_mib: float


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


def seek(path: Path, count: int) -> Seeks:
    """Opens the session and goes to `count` places in it, none near the one before."""
    began = time.perf_counter()
    source = ReplaySource(path)
    source.toggle()
    playback = source.playback
    open_ms = (time.perf_counter() - began) * 1e3
    rng = random.Random(0)
    times, cpu_times = [], []
    for _ in range(count):
        t_ns = rng.randint(playback.start_ns, playback.end_ns)
        began, began_cpu = time.perf_counter(), time.thread_time()
        source.seek(t_ns)
        times.append((time.perf_counter() - began) * 1e3)
        cpu_times.append((time.thread_time() - began_cpu) * 1e3)
        assert source.poll(0).t_ns == t_ns
    source.stop()
    times.sort()
    return Seeks(
        open_ms,
        count,
        statistics.median(times),
        times[int(0.95 * count)],
        times[-1],
        max(cpu_times),
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def seek_apart(path: Path, count: int) -> dict[str, float]:
    """`seek` in a process of its own, whose memory is that of a replay alone."""
    command = [sys.executable, __file__, "--only-seek", "--session", str(path)]
    command += ["--seeks", str(count)]
    done = subprocess.run(command, check=True, capture_output=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(options: argparse.Namespace, path: Path) -> dict[str, float]:
    result: dict[str, float] = {}
    if not path.exists():
        num_events, writing_s = record(path, options)
        result |= {"num_events": num_events, "write_us_per_event": writing_s / num_events * 1e6}
    return result | {"file_mib": path.stat().st_size / (1 << 20)} | seek_apart(path, options.seeks)


def held(result: dict[str, float]) -> dict[str, bool]:
    return {
        f"opens within {GOAL_OPEN_MS:.0f} ms": result["open_ms"] <= GOAL_OPEN_MS,
        f"every seek within {GOAL_MS:.0f} ms": result["max_ms"] <= GOAL_MS,
        f"within {GOAL_RSS_MIB:.0f} MiB": result["rss_mib"] <= GOAL_RSS_MIB,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--steps-per-s", type=float, default=200)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--pages", type=int, default=16_384)
    parser.add_argument("--seeks", type=int, default=200)
    parser.add_argument("--session", type=Path, help="keep the recording there, or take it")
    parser.add_argument("--only-seek", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    if options.only_seek:
        print(json.dumps(asdict(seek(options.session, options.seeks))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        result = measure(options, options.session or Path(folder) / "session.db")
    for name, value in result.items():
        print(f"{name:>20}  {value:,.2f}")
    for goal, met in held(result).items():
        print(f"{'goal':>20}  {goal}: {met}")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
