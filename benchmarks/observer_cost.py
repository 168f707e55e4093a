#!/usr/bin/env python3
"""What watching costs: the rate of a steadily decoding server with everything off, with recording
and a stream that is read, and with an attached dashboard.

Two servers are up, `off` emits no event at all (--no-observe), `on` records and streams. Both get
the same load and decode in turns of a second or two: while one does, the other is held still with
SIGSTOP in the middle of its decoding, so that every turn finds the machine and the batch alike, and
no turn has a prefill in it. The dashboard hangs on `on` all the time and is held still too, except
in its own turns; its server sends the stream in both. A block of turns goes

    off on,  terminal off,  off terminal,  on off

Both servers have had equally many turns before each two of these, so their contexts are equally
long, and what changes evenly with time falls out of the whole. Printed is the median of what the
one lost to the other, with its bootstrap interval of 95 %. A turn is timed by the arrival of its
tokens, since a server that emits nothing tells no time; where it is told, the engine's own clock
stands beside. In every round both servers are made anew, the other one first. Examples:

    python benchmarks/observer_cost.py                                 # CPU, 8 streams, 2 minutes
    python benchmarks/observer_cost.py --model random:qwen2.5-7b --concurrency 64 \\
        --serve-flags '--gpu-memory-utilization 0.4' --json observer_cost.json      # one GPU
"""

from __future__ import annotations

import argparse
import os
import shlex
import sqlite3
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from attached import Terminal
from halting import Halting
from paired import costs, estimate
from servers import (
    HOST,
    end_on_sigterm,
    llmtop,
    machine,
    print_machine,
    running,
    write_json,
)
from steady import Streams

BASE: Final = "off"
ORDER: Final = ("off", "on", "terminal", "off", "off", "terminal", "on", "off")
ALONE: Final = "the terminal alone"
COLUMNS, LINES = 120, 40
DRAWN_S: Final = 4.0  # until the dashboard has drawn its first pictures
SETTLE_S: Final = 0.4  # a server that goes on, and a dashboard that catches up
END_S: Final = 3.0  # to read the recording and end the servers
WRITTEN_S: Final = 0.6  # until the recorder has written what it was told


@dataclass(slots=True)
class Turn:
    """From `first_s` to `last_s` on the monotonic clock. `step_s` is by the arrival of tokens,
    `engine_step_s` by the engine's clock where it tells; CPU seconds and bytes are the
    dashboard's."""

    case: str
    first_s: float
    last_s: float
    step_s: float
    engine_step_s: float | None = None
    cpu_s: float | None = None
    num_bytes: int | None = None


class Arms:
    """Two servers, with a dashboard on one of them, all held still until it is their turn."""

    def __init__(self, options: argparse.Namespace, folder: Path, swapped: bool) -> None:
        self._options = options
        self._session = folder / "session.db"
        self._stack = ExitStack()
        flags = shlex.split(options.serve_flags)
        self._launches = [
            llmtop("off", options.model, *flags, "--no-observe"),
            llmtop("on", options.model, *flags, "--session", str(self._session)),
        ][:: -1 if swapped else 1]
        self._folder = folder
        self._ports: dict[str, int] = {}
        self._held: dict[str, Halting] = {}

    def __enter__(self) -> Arms:
        with self._stack:
            for launch in self._launches:
                server = self._stack.enter_context(running(launch, self._folder))
                self._ports[launch.name] = server.port
                self._hold(launch.name, server.pid)
            self._resume("on")
            self._terminal = self._attach()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _hold(self, name: str, pid: int) -> None:
        self._held[name] = self._stack.enter_context(Halting(pid))
        self._held[name].halt()

    def _resume(self, *names: str) -> None:
        for name in names:
            self._held[name].resume()

    def _attach(self) -> Terminal:
        url = f"http://{HOST}:{self._ports['on']}"
        command = [sys.executable, "-m", "llmtop", "attach", url]
        terminal = Terminal(command, COLUMNS, LINES)
        self._stack.callback(terminal.close)
        time.sleep(DRAWN_S)
        terminal.check()
        if not terminal.num_bytes:
            sys.exit("the terminal drew nothing")
        self._hold("terminal", terminal.pid)
        return terminal

    def block(self, seed: int) -> list[Turn]:
        """One turn for each entry of `ORDER`, out of one long answer to every request."""
        with ExitStack() as stack:
            streams = {name: self._begin(name, seed, stack) for name in self._ports}
            return [self._turn(case, streams) for case in ORDER]

    def _begin(self, name: str, seed: int, stack: ExitStack) -> Streams:
        """The load of a block, prefilled and held still in the middle of its decoding."""
        self._resume(name)
        options = self._options
        streams = Streams(
            self._ports[name], options.concurrency, options.input_len, options.output_len, seed
        )
        stack.callback(streams.close)
        streams.wait()
        self._held[name].halt()
        return streams

    def _turn(self, case: str, streams: dict[str, Streams]) -> Turn:
        server = BASE if case == BASE else "on"
        awake = [server, "terminal"] if case == "terminal" else [server]
        self._resume(*awake)
        time.sleep(SETTLE_S)
        before, first_s = self._watched(case), time.monotonic()
        time.sleep(self._options.window)
        after, last_s = self._watched(case), time.monotonic()
        for name in awake:
            self._held[name].halt()
        turn = Turn(case, first_s, last_s, streams[server].step_s(first_s, last_s))
        if case == "terminal":
            turn.cpu_s, turn.num_bytes = after[0] - before[0], after[1] - before[1]
        return turn

    def _watched(self, case: str) -> tuple[float, int]:
        if case != "terminal":
            return 0.0, 0
        return self._terminal.cpu_s(), self._terminal.num_bytes

    def ask_engine(self, turns: list[Turn]) -> None:
        """Fills in what the engine's clock says, from the recording."""
        self._resume("on")
        time.sleep(WRITTEN_S)
        with closing(sqlite3.connect(f"file:{self._session}?mode=ro", uri=True)) as session:
            for turn in turns:
                if turn.case != BASE:
                    turn.engine_step_s = engine_step_s(session, turn.first_s, turn.last_s)


def engine_step_s(session: sqlite3.Connection, first_s: float, last_s: float) -> float | None:
    """Mean seconds between the ends of a recording's steps that ended in between."""
    count, first_ns, last_ns = session.execute(
        "select count(*), min(end_ns), max(end_ns) from step where end_ns between ? and ?",
        (round(first_s * 1e9), round(last_s * 1e9)),
    ).fetchone()
    return (last_ns - first_ns) / (count - 1) / 1e9 if count > 1 else None


def main() -> None:
    options = parsed()
    end_on_sigterm()
    facts = machine()
    print_machine(facts)
    began = time.monotonic()
    blocks: list[list[Turn]] = []
    for number in range(options.rounds):
        deadline = began + options.seconds * (number + 1) / options.rounds
        blocks += blocks_until(deadline, options, number)
    summary = summarise(blocks)
    print_table(summary)
    chosen = {name: value for name, value in vars(options).items() if name != "json"}
    turns = [[asdict(turn) for turn in block] for block in blocks]
    write_json(
        options.json, {"machine": facts, "options": chosen, "summary": summary, "blocks": turns}
    )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="[default: the default model]")
    parser.add_argument("--concurrency", type=int, default=8, help="requests side by side")
    parser.add_argument("--input-len", type=int, default=128, help="tokens of a prompt")
    parser.add_argument(
        "--output-len", type=int, default=1500, help="the most tokens a request makes in a block"
    )
    parser.add_argument("--window", type=float, default=1.2, help="measured seconds of a turn")
    parser.add_argument(
        "--rounds", type=int, default=2, help="how often both servers are made anew"
    )
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="for all of it; one block a round at least"
    )
    parser.add_argument("--serve-flags", default="", help="more flags for llmtop serve")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def blocks_until(deadline: float, options: argparse.Namespace, number: int) -> list[list[Turn]]:
    """As many blocks as there is time for, at least one, on fresh servers."""
    blocks: list[list[Turn]] = []
    with (
        tempfile.TemporaryDirectory(prefix="llmtop-bench-") as folder,
        Arms(options, Path(folder), swapped=number % 2 == 1) as arms,
    ):
        longest_s = 0.0
        while not blocks or time.monotonic() + longest_s + END_S < deadline:
            began = time.monotonic()
            blocks.append(arms.block(seed=1000 * number + len(blocks)))
            longest_s = max(longest_s, time.monotonic() - began)
            say(number, blocks[-1])
        arms.ask_engine([turn for block in blocks for turn in block])
    return blocks


def say(number: int, block: list[Turn]) -> None:
    steps = "  ".join(f"{turn.case} {1e3 * turn.step_s:.2f}" for turn in block)
    print(f"round {number + 1}, ms a step: {steps}", flush=True)


def summarise(blocks: list[list[Turn]]) -> dict[str, Any]:
    """Per case the medians of its turns, and the cost with its interval."""
    found: dict[str, list[float]] = {}
    for block in blocks:
        for case, lost in costs([(turn.case, turn.step_s) for turn in block], BASE).items():
            found.setdefault(case, []).extend(lost)
    found[ALONE] = [t - o for t, o in zip(found["terminal"], found["on"], strict=True)]
    turns = [turn for block in blocks for turn in block]
    cases: dict[str, Any] = {BASE: of_turns([t for t in turns if t.case == BASE])}
    for case, lost in found.items():
        chosen = [turn for turn in turns if turn.case == case]
        cases[case] = of_turns(chosen) | {"cost_pct": estimate(lost)._asdict(), "costs": lost}
    return cases


def of_turns(turns: list[Turn]) -> dict[str, float]:
    facts: dict[str, float] = {}
    if turns:
        facts["step_ms"] = 1e3 * median(turn.step_s for turn in turns)
    told = [turn.engine_step_s for turn in turns if turn.engine_step_s is not None]
    if told:
        facts["engine_step_ms"] = 1e3 * median(told)
    watched = [turn for turn in turns if turn.cpu_s is not None]
    if watched:
        passed_s = sum(turn.last_s - turn.first_s for turn in watched)
        facts["terminal_cpu_pct"] = 100 * sum(t.cpu_s or 0.0 for t in watched) / passed_s
        facts["terminal_kib_per_s"] = sum(t.num_bytes or 0 for t in watched) / 1024 / passed_s
    return facts


def print_table(summary: dict[str, Any]) -> None:
    print("\n| case | ms a step | by the engine's clock | cost % | 95 % interval | turns |")
    print("|---|---|---|---|---|---|")
    for case, facts in summary.items():
        cost = facts.get("cost_pct")
        shown = ("", "", "") if cost is None else cells(cost)
        steps = [shown_ms(facts.get(name)) for name in ("step_ms", "engine_step_ms")]
        print(f"| {' | '.join((case, *steps, *shown))} |")
    watcher, cores = summary["terminal"], len(os.sched_getaffinity(0))
    cpu_pct = watcher["terminal_cpu_pct"]
    print(
        f"\nThe terminal takes {cpu_pct:.1f} % of a core, {cpu_pct / cores:.2f} % of {cores} cores,"
        f" and writes {watcher['terminal_kib_per_s']:.1f} KiB/s."
    )


def cells(cost: dict[str, float]) -> tuple[str, str, str]:
    return f"{cost['median']:.2f}", f"{cost['low']:.2f} to {cost['high']:.2f}", str(cost["n"])


def shown_ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
