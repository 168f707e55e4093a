#!/usr/bin/env python3
"""What watching costs: tokens per second with everything off, with recording and a stream reader,
and with an attached dashboard.

Two servers live side by side and are measured in turns, one at a time, the other idle: `off` emits
no event at all (--no-observe), `on` records and streams. The turns go off on terminal terminal on
off ..., so that what changes with time meets all of them; a turn is compared with the `off` turn of
the same half. Fresh servers in every round. Examples:

    python benchmarks/observer_cost.py                                          # CPU, 8 streams
    python benchmarks/observer_cost.py --model random:qwen2.5-7b --concurrency 64 \\
        --output-len 256 --serve-flags '--gpu-memory-utilization 0.4'           # one H200
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import pty
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

from servers import (
    ROOT,
    Running,
    end,
    end_on_sigterm,
    llmtop,
    machine,
    print_machine,
    running,
    write_json,
)

sys.path.insert(0, str(ROOT))
from llmtop.load import Lengths, LoadSpec, run_load

HALF = ("off", "on", "terminal")
COLUMNS, LINES = 120, 40
Facts = dict[str, Any]


def main() -> None:
    arguments = parse()
    end_on_sigterm()
    facts = machine()
    print_machine(facts)
    turns: list[Facts] = []
    with tempfile.TemporaryDirectory(prefix="llmtop-bench-") as folder:
        for number in range(arguments.rounds):
            turns += one_round(number, arguments, Path(folder))
    summary = summarise(turns)
    print_table(summary)
    write_json(arguments.json, {"machine": facts, "turns": turns, "summary": summary})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="[default: the default model]")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--requests-per-stream", type=int, default=3)
    parser.add_argument("--input-len", default="128")
    parser.add_argument("--output-len", default="128")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve-flags", default="", help="more flags for llmtop serve")
    parser.add_argument("--no-terminal", action="store_true", help="only off and on")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def one_round(number: int, arguments: argparse.Namespace, folder: Path) -> list[Facts]:
    """Both servers fresh; every case twice, forwards and backwards."""
    flags = shlex.split(arguments.serve_flags)
    off = llmtop("off", arguments.model, *flags, "--no-observe")
    session = folder / f"session-{number}.db"
    on = llmtop("on", arguments.model, *flags, "--session", str(session))
    half = HALF[:2] if arguments.no_terminal else HALF
    turns: list[Facts] = []
    with running(off, folder) as off_server, running(on, folder) as on_server:
        for server in (off_server, on_server):
            measure(server, arguments, seed=-1)
        for place, case in enumerate((*half, *half[::-1])):
            server = off_server if case == "off" else on_server
            turn = {"round": number, "half": place // len(half), "case": case}
            # No prompt comes twice: the prefix cache answers none.
            turn |= one_turn(case, server, arguments, seed=1000 * number + place)
            turns.append(turn)
            print(turn, flush=True)
    return turns


def one_turn(case: str, server: Running, arguments: argparse.Namespace, seed: int) -> Facts:
    watchers: dict[str, Callable[[str, Facts], AbstractContextManager[None]]] = {
        "on": stream_reader,
        "terminal": terminal,
    }
    facts: Facts = {}
    watcher = watchers[case](server.url, facts) if case in watchers else nullcontext()
    with watcher:
        facts["tok_s"] = measure(server, arguments, seed)
    return facts


def measure(server: Running, arguments: argparse.Namespace, seed: int) -> float:
    """Output tokens per second of the whole run."""
    spec = LoadSpec(
        base_url=server.url,
        concurrency=arguments.concurrency,
        num_requests=arguments.concurrency * arguments.requests_per_stream,
        prompt_tokens=Lengths.parse(arguments.input_len),
        output_tokens=Lengths.parse(arguments.output_len),
        continuous_usage=False,
        seed=seed,
    )
    report = asyncio.run(run_load(spec))
    if report.num_failed or report.throughput is None:
        sys.exit(f"{report.num_failed} requests failed: {report.errors}")
    return report.throughput.output_tokens_per_s


@contextmanager
def stream_reader(url: str, facts: Facts) -> Iterator[None]:
    """A process that reads the stream meanwhile and does nothing with it."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "benchmarks" / "stream_reader.py"), url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    time.sleep(0.5)
    t0 = time.monotonic()
    yield
    wall_s = time.monotonic() - t0
    said = json.loads(process.communicate()[0])
    facts["reader_cpu_pct"] = round(100 * said["cpu_s"] / wall_s, 2)
    facts["stream_kib_per_s"] = round(said["bytes"] / 1024 / wall_s, 1)


@contextmanager
def terminal(url: str, facts: Facts) -> Iterator[None]:
    """`llmtop attach` in a pseudo-terminal of 120x40 meanwhile."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "llmtop", "attach", url],
        env=os.environ | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)},
        stdin=child,
        stdout=child,
        stderr=child,
        start_new_session=True,
    )
    os.close(child)
    written = [0]
    threading.Thread(target=count_bytes, args=(parent, written), daemon=True).start()
    time.sleep(4)
    t0, cpu_0, bytes_0 = time.monotonic(), cpu_s(process.pid), written[0]
    yield
    wall_s = time.monotonic() - t0
    if process.poll() is not None:
        sys.exit(f"the attached terminal ended with {process.returncode}")
    facts["terminal_cpu_pct"] = round(100 * (cpu_s(process.pid) - cpu_0) / wall_s, 2)
    facts["terminal_kib_per_s"] = round((written[0] - bytes_0) / 1024 / wall_s, 1)
    process.send_signal(signal.SIGINT)
    end(process)
    os.close(parent)


def count_bytes(descriptor: int, written: list[int]) -> None:
    while True:
        try:
            data = os.read(descriptor, 1 << 16)
        except OSError:
            return
        written[0] += len(data)


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has taken, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def summarise(turns: list[Facts]) -> dict[str, Facts]:
    """Per case the median rate and the cost: 1 - rate / rate of `off` in the same half."""
    base = {(t["round"], t["half"]): t["tok_s"] for t in turns if t["case"] == "off"}
    summary = {}
    for case in dict.fromkeys(turn["case"] for turn in turns):
        chosen = [turn for turn in turns if turn["case"] == case]
        costs = [100 * (1 - t["tok_s"] / base[t["round"], t["half"]]) for t in chosen]
        summary[case] = {
            "turns": len(chosen),
            "tok_s": round(median(t["tok_s"] for t in chosen), 2),
            "cost_pct": round(median(costs), 2),
            "cost_pct_min": round(min(costs), 2),
            "cost_pct_max": round(max(costs), 2),
        } | medians(chosen)
    return summary


def medians(chosen: list[Facts]) -> Facts:
    names = [name for name in chosen[0] if name.endswith(("_cpu_pct", "_kib_per_s"))]
    return {name: round(median(turn[name] for turn in chosen), 2) for name in names}


def print_table(summary: dict[str, Facts]) -> None:
    cores = len(os.sched_getaffinity(0))
    print("\n| case | turns | output tok/s | cost % (range) | watcher's CPU | watcher reads |")
    print("|---|---|---|---|---|---|")
    for case, facts in summary.items():
        cpu = facts.get("reader_cpu_pct", facts.get("terminal_cpu_pct"))
        shown_cpu = "" if cpu is None else f"{cpu} % of a core, {cpu / cores:.2f} % of {cores}"
        rate = facts.get("stream_kib_per_s", facts.get("terminal_kib_per_s"))
        shown_rate = "" if rate is None else f"{rate} KiB/s"
        print(
            f"| {case} | {facts['turns']} | {facts['tok_s']:.1f} | {facts['cost_pct']:.2f} "
            f"({facts['cost_pct_min']:.2f} to {facts['cost_pct_max']:.2f}) "
            f"| {shown_cpu} | {shown_rate} |"
        )


if __name__ == "__main__":
    main()
