"""What watching several servers costs: their pages read once a second over real HTTP, and the
screen that shows them.

The servers are a process of their own; each page has our own server's names, which are vLLM's, with
counters that grow, and is filled up with lines that nobody asks for. CPU is that of the process
that watches, from /proc; bytes are those that come out of the pseudo-terminal.

    python benchmarks/fleet_cost.py --servers 8 --lines 2000 --json fleet_cost.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from page_cost import START_NS, filled
from servers import environment
from synthetic import Synthetic
from terminal_cost import Terminal

from llmtop.peer import Address
from llmtop.sources.fleet import FleetSource
from profiler.prometheus import render
from profiler.state import SessionState

GOAL_PCT: Final = 3.0
SLOW_KIB_PER_S: Final = 20.0
_PAGES: Final = 40


def pages(num_lines: int) -> list[bytes]:
    """The page of a server under load, a second apart."""
    session, state, found = Synthetic(64, 16_384, gpu=False, step_ns=33_000_000), SessionState(), []
    for event in session.start(START_NS, 0):
        state.apply(event, state.seq + 1)
    for step in range(30 * _PAGES):
        for event in session.step(START_NS + step * 33_000_000):
            state.apply(event, state.seq + 1)
        if step % 30 == 29:
            found.append(filled(render(state).decode(), num_lines).encode() + b"\n")
    return found


def serve(num_servers: int, num_lines: int) -> None:
    bodies, began = pages(num_lines), time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            is_page = self.path == "/metrics"
            body = bodies[int(time.monotonic() - began) % len(bodies)] if is_page else b""
            self.send_response(200 if is_page else 404)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *given: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *given: object) -> None:
            """A client that has left is no news."""

    servers = [Server(("127.0.0.1", 0), Handler) for _ in range(num_servers)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps([server.server_port for server in servers]), flush=True)
    sys.stdin.read()


def source_cost(urls: list[str], seconds: float) -> dict[str, float]:
    """Reading and folding, without a screen."""
    source = FleetSource([Address(url) for url in urls])
    source.start()
    read_for(source, 3)
    cpu_s, began, before = time.process_time(), time.monotonic(), num_read(source)
    read_for(source, seconds)
    passed, cpu_s = time.monotonic() - began, time.process_time() - cpu_s
    pages_per_s = (num_read(source) - before) / passed
    source.stop()
    return {"cpu_pct": 100 * cpu_s / passed, "pages_per_s": pages_per_s}


def read_for(source: FleetSource, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        source.poll(time.monotonic_ns())
        time.sleep(0.25)


def num_read(source: FleetSource) -> int:
    replicas = source.poll(time.monotonic_ns()).fleet.replicas.values()
    return sum(len(replica.foreign.samples) for replica in replicas)


def screen_cost(urls: list[str], seconds: float, size: str, *flags: str) -> dict[str, float]:
    width, height = map(int, size.split("x"))
    command = [sys.executable, "-m", "llmtop", "attach", *urls, *flags]
    terminal = Terminal(command, width, height)
    try:
        terminal.read_for(12)
        before, began = terminal.cpu_seconds(), time.monotonic()
        counts = terminal.read_for(seconds)
        cpu_pct = 100 * (terminal.cpu_seconds() - before) / (time.monotonic() - began)
        kib = sum(counts) / len(counts) / 1024
        return {"cpu_pct": cpu_pct, "kib_per_s": kib, "peak_kib_per_s": max(counts) / 1024}
    finally:
        terminal.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--servers", type=int, default=8)
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--size", default="120x40")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.servers, options.lines)
        return 0
    me = [sys.executable, __file__, "--serve", "--servers", str(options.servers)]
    child = subprocess.Popen(
        [*me, "--lines", str(options.lines)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        urls = [f"http://127.0.0.1:{port}" for port in json.loads(child.stdout.readline())]
        found = {
            "source alone": source_cost(urls, options.seconds),
            "screen": screen_cost(urls, options.seconds, options.size),
            "screen --slow": screen_cost(urls, options.seconds, options.size, "--slow"),
        }
    finally:
        child.stdin.close()
        child.wait()
    print(f"{options.servers} servers, {options.lines} lines each, load {os.getloadavg()[0]:.1f}")
    print("| what | CPU, % of a core | KiB/s | peak KiB/s | goal |")
    print("|---|---|---|---|---|")
    goals = {"source alone": f"{GOAL_PCT:.0f} %", "screen --slow": f"{SLOW_KIB_PER_S:.0f} KiB/s"}
    for what, cost in found.items():
        keys = ("kib_per_s", "peak_kib_per_s")
        written = [f"{cost[key]:.1f}" if key in cost else "" for key in keys]
        print(f"| {what} | {cost['cpu_pct']:.1f} | {' | '.join(written)} | {goals.get(what, '')} |")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
