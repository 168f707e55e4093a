"""Whether the terminal grows: its memory and its Python objects, after each round of the same keys,
clicks and sizes.

The real program runs in a pseudo-terminal, once on a made-up live session of 64 requests at 30
steps a second, once on a recording of ten minutes that plays in a loop. What it keeps for a while
(the five minutes of a live viewer, the pages of an open tab, caches of a fixed size) comes and goes
within a round; growth is what every round leaves behind. So at the end of each the program is led
to the same rest, and there it is measured: the objects that the collector tracks, after a
collection, but the small values of layout of which Textual keeps a fixed number; and what stays of
the resident set once the C library has given back what is free ("with": before that). Rounds within
the first six minutes are left out: a live viewer grows by design until its five minutes are full.

    python benchmarks/soak.py --minutes 10 --out soak.json
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from attached import Terminal
from replay_seek import record
from servers import environment, machine, print_machine

SIZES: Final = [(30, 8), (60, 16), (80, 24), (100, 30), (120, 40), (200, 60)]
# All keys but those that end the program, hold it, ask for a file or a word, or pause for good.
KEYS: Final = (
    "1 2 3 4 5 6 7 j k n N s S c m + - o v , . [ ] { } L < > x u a T O P t ? y \t \r \x1b"
    " \x1b[A \x1b[B \x1b[C \x1b[D \x1b[H \x1b[F \x1b[5~ \x1b[6~ \x1b[Z / g SPACE"
).split(" ")
# Sheets, questions and choices are closed. Then the live picture goes on to the present, and the
# recording is held in its middle.
CLOSED: Final = ("\x1b",) * 8
REST: Final = {"live": (*CLOSED, *"." * 40, "1"), "replay": (*CLOSED, *"g50%", "\r", "[", "1")}
ROUND_S: Final = 35.0
TURN_S: Final = 0.1
REST_S: Final = 3.0
SETTLED_S: Final = 360.0
LAYOUT: Final = {"BoxModel", "Fraction", "Offset", "Region", "Size", "Spacing"}
MAX_MIB_PER_ROUND: Final = 0.5
MAX_OBJECTS_PER_ROUND: Final = 500


def watch(place: str, log: Path) -> int:
    """The program, and a thread that writes down how large it is when it is asked to."""
    from llmtop.app import run_app
    from llmtop.sources.remote import RemoteSource
    from llmtop.sources.replay import ReplaySource

    asked = threading.Event()
    signal.signal(signal.SIGUSR1, lambda number, frame: asked.set())

    def tell() -> None:
        began, libc = time.monotonic(), ctypes.CDLL(None)
        while True:
            asked.wait()
            asked.clear()
            gc.collect()
            before_mib = _rss_mib()
            libc.malloc_trim(0)
            row = time.monotonic() - began, _rss_mib(), _num_objects(), before_mib
            with log.open("a") as out:
                print(*row, file=out)

    threading.Thread(target=tell, daemon=True).start()
    source: Any
    if place.startswith("http"):
        source = RemoteSource(place)
    else:
        source = ReplaySource(Path(place))
        source.replay.repeat()
    return run_app(source)


def _num_objects() -> int:
    return sum(type(o).__name__ not in LAYOUT for o in gc.get_objects())


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


class Storm:
    """Whatever a person may do to a terminal, but end it; the same in every round."""

    def __init__(self, terminal: Terminal, seed: int, rest: Sequence[str]) -> None:
        self._terminal = terminal
        self._seed = seed
        self._rest = rest
        self.begin()

    def begin(self) -> None:
        self._rng = random.Random(self._seed)
        self._size = (120, 40)
        self._terminal.resize(*self._size)

    def turn(self) -> None:
        self._terminal.check()
        kind = self._rng.random()
        if kind < 0.75:
            self._terminal.press(self._rng.choice(KEYS).replace("SPACE", " ").encode())
        elif kind < 0.95:
            self._terminal.press(self._mouse())
        else:
            self._size = self._rng.choice(SIZES)
            self._terminal.resize(*self._size)

    def _mouse(self) -> bytes:
        """A click or a turn of the wheel; not on the footer, where "quit" is."""
        width, height = self._size
        x, y = self._rng.randrange(1, width), self._rng.randrange(1, min(height, 30) // 2)
        button = self._rng.choice((0, 64, 65))
        press = f"\x1b[<{button};{x};{y}M"
        return (press if button else press + f"\x1b[<0;{x};{y}m").encode()

    def rest(self) -> None:
        self.begin()
        for key in self._rest:
            self._terminal.check()
            self._terminal.press(key.encode())
            time.sleep(TURN_S)

    def measure(self) -> None:
        self._terminal.check()
        os.kill(self._terminal.pid, signal.SIGUSR1)


def one_round(storms: list[Storm]) -> None:
    for storm in storms:
        storm.begin()
    end = time.monotonic() + ROUND_S
    while time.monotonic() < end:
        for storm in storms:
            storm.turn()
        time.sleep(TURN_S)
    for storm in storms:
        storm.rest()
    time.sleep(REST_S)
    for storm in storms:
        storm.measure()


def soaked(places: dict[str, str], minutes: float, folder: Path) -> dict[str, list[list[float]]]:
    """By name, rows of (seconds, MiB, objects, MiB before), one a round."""
    me = [sys.executable, str(Path(__file__).resolve())]
    logs = {name: folder / name for name in places}
    with ExitStack() as stack:
        storms = []
        for seed, (name, place) in enumerate(places.items()):
            terminal = Terminal([*me, "--watch", place, str(logs[name])], 120, 40)
            stack.callback(terminal.close)
            storms.append(Storm(terminal, seed, REST[name]))
        time.sleep(5)
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            one_round(storms)
        time.sleep(REST_S)
    return {
        name: [[float(word) for word in line.split()] for line in log.read_text().splitlines()]
        for name, log in logs.items()
    }


def growth(rows: list[list[float]], column: int) -> float:
    """What a round leaves behind: by how much the least of the later half of the settled rounds is
    above the least of the earlier half, by the number of rounds that are between their middles."""
    values = [row[column] for row in rows if row[0] >= SETTLED_S]
    half = len(values) // 2
    if not half:
        return math.nan
    return (min(values[-half:]) - min(values[:half])) / (len(values) - half)


def report(found: dict[str, list[list[float]]]) -> bool:
    """Whether nothing grows."""
    held = True
    for name, rows in found.items():
        print(f"\n{name:<8}{'min':>6}{'MiB':>8}{'with':>8}{'objects':>10}")
        for seconds, mib, objects, before in rows:
            print(f"{'':<8}{seconds / 60:>6.1f}{mib:>8.1f}{before:>8.1f}{objects:>10.0f}")
        mib, objects = growth(rows, 1), growth(rows, 2)
        fine = mib <= MAX_MIB_PER_ROUND and objects <= MAX_OBJECTS_PER_ROUND
        verdict = "held" if fine else "too short to tell" if math.isnan(mib) else "GROWS"
        print(f"{'':<8}{mib:+.2f} MiB, {objects:+.0f} objects a round: {verdict}")
        held = held and fine
    return held


def run(options: Namespace, folder: Path) -> dict[str, list[list[float]]]:
    os.environ["LLMTOP_HOME"] = str(folder)
    session = folder / "session.db"
    record(session, Namespace(steps_per_s=30, requests=64, pages=2048, minutes=10))
    serve = [sys.executable, str(Path(__file__).with_name("terminal_cost.py")), "--serve"]
    server = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True, env=environment())
    try:
        assert server.stdout is not None
        live = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        return soaked({"live": live, "replay": str(session)}, options.minutes, folder)
    finally:
        server.terminate()
        server.wait()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    parser.add_argument("--watch", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.watch:
        return watch(options.watch[0], Path(options.watch[1]))
    print_machine(machine())
    with tempfile.TemporaryDirectory(prefix="llmtop-soak-") as folder:
        found = run(options, Path(folder))
    held = report(found)
    if options.out:
        options.out.write_text(json.dumps(found))
    return 0 if held else 1


if __name__ == "__main__":
    raise SystemExit(main())
