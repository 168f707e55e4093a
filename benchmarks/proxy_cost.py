#!/usr/bin/env python3
"""What the proxy adds to a request: the same open load straight to a server and through
`llmtop proxy`, in turns, so that both find the machine alike.

Each request streams a few tokens of the tiny random model, or with `--cheap` of a server that
computes nothing, so that the machine has time to spare; then a relay of bytes that looks at none
goes beside, the least that can be added. Per turn the load is sent at a fixed
rate, whatever the answers do; the first second of a turn does not count. Printed are quantiles of
the time to the first byte of the body, of the time to the end, and of both differences between the
ways. Where client, server and proxy share few cores they take turns too, and the difference has
that in it: the CPU seconds per request stand beside. Examples:

    python benchmarks/proxy_cost.py                                   # 200 requests/s, a minute
    python benchmarks/proxy_cost.py --cheap                           # what the proxy itself takes
    python benchmarks/proxy_cost.py --rate 50 --seconds 10 --json proxy_cost.json
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from servers import (
    Launch,
    Running,
    end_on_sigterm,
    environment,
    llmtop,
    machine,
    print_machine,
    running,
    write_json,
)

from llmtop.load.connection import Connections, ExchangeError
from profiler.folds.quantiles import Quantiles

WARM_S: Final = 1.0
PATH: Final = "/v1/completions"
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Times:
    """In ms from sending; `failed` have no whole answer. `cpu_s` is of what stands between."""

    first_ms: list[float] = field(default_factory=list)
    end_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    failed: int = 0
    cpu_s: float = 0.0


async def one(connections: Connections, body: bytes, due_s: float, times: Times) -> None:
    begun_ns, first_ns = time.monotonic_ns(), 0

    def hear(status: int, data: bytes, t_ns: int) -> None:
        nonlocal first_ns
        first_ns = first_ns or t_ns

    try:
        status = await connections.post(PATH, body, hear)
    except ExchangeError:
        status = 0
    end_ns = time.monotonic_ns()
    if status != 200 or not first_ns:
        times.failed += 1
        return
    times.first_ms.append((first_ns - begun_ns) / 1e6)
    times.end_ms.append((end_ns - begun_ns) / 1e6)
    times.late_ms.append(begun_ns / 1e6 - due_s * 1e3)


async def turn(url: str, rate: float, seconds: float, body: bytes, times: Times) -> None:
    """Sends at `rate`; what is due within the first second warms up."""
    begin_s, warming = time.monotonic(), Times()
    async with Connections(url, {}) as connections, asyncio.TaskGroup() as group:
        for i in range(int(rate * (WARM_S + seconds))):
            due_s = begin_s + i / rate
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            counts = times if due_s - begin_s >= WARM_S else warming
            group.create_task(one(connections, body, due_s, counts))


def cpu_s(pid: int) -> float:
    """User and system time of a process and of its children so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own_s = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return own_s + sum(cpu_s(int(child)) for child in children)


@dataclass(frozen=True, slots=True)
class Way:
    """An address that leads to the server, and the process that stands between with its children,
    if one does."""

    url: str
    pid: int | None = None

    def cpu_s(self) -> float:
        return 0.0 if self.pid is None else cpu_s(self.pid)


def script(name: str, *flags: str) -> Launch:
    """One of the files beside this one."""
    command = (sys.executable, str(Path(__file__).with_name(f"{name}.py")), "--port", "{port}")
    return Launch(name, (*command, *flags))


@contextmanager
def all_ways(folder: Path, threads: int, cheap: bool) -> Iterator[dict[str, Way]]:
    engine = llmtop("server", "random:tiny", "--no-record", "--num-threads", str(threads))
    with ExitStack() as stack:

        def start(launch: Launch) -> Running:
            return stack.enter_context(running(launch, folder))

        server = start(script("cheap_server") if cheap else engine)
        ways = {"direct": Way(server.url)}
        if cheap:
            relay = start(script("cheap_relay", "--upstream-port", str(server.port)))
            ways["relay"] = Way(relay.url, relay.pid)
        command = (sys.executable, "-m", "llmtop", "proxy", "--headless", "--upstream", server.url)
        record = ("--port", "{port}", "--session", str(folder / "proxy.db"))
        proxy = start(Launch("proxy", (*command, *record), environment()))
        yield ways | {"proxy": Way(proxy.url, proxy.pid)}


def measure(options: argparse.Namespace) -> dict[str, Times]:
    found: dict[str, Times] = {}
    body = (
        b'{"model":"random:tiny","prompt":"hello","stream":true,"ignore_eos":true,'
        b'"max_tokens":%d}' % options.tokens
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        all_ways(Path(folder), options.threads, options.cheap) as ways,
    ):
        for _ in range(options.rounds):
            for name in (*ways, *reversed(ways)):
                way, times = ways[name], found.setdefault(name, Times())
                before_s = way.cpu_s()
                asyncio.run(turn(way.url, options.rate, options.seconds, body, times))
                times.cpu_s += way.cpu_s() - before_s
    return found


QUANTILES: Final = ("p50", "p90", "p99", "max")


def rows(found: dict[str, Times]) -> Iterator[tuple[str, list[float | None]]]:
    """Of each time: direct, each other way, and what that adds."""
    for title, name in (("first byte", "first_ms"), ("end", "end_ms"), ("sent late", "late_ms")):
        direct: list[float | None] = []
        for way, times in found.items():
            quantiles = Quantiles.of(getattr(times, name))
            values = [getattr(quantiles, q) if quantiles else None for q in QUANTILES]
            yield f"{title}, {way}", values
            direct = direct or values
            if values is not direct and name != "late_ms":
                yield (
                    f"{title}, {way} adds",
                    [
                        None if a is None or b is None else b - a
                        for a, b in zip(direct, values, strict=True)
                    ],
                )


def print_table(found: dict[str, Times]) -> None:
    print(f"{'ms':<24}" + "".join(f"{name:>9}" for name in QUANTILES))
    for title, values in rows(found):
        cells = "".join(f"{'--':>9}" if v is None else f"{v:9.2f}" for v in values)
        print(f"{title:<24}{cells}")
    for name, times in found.items():
        told, num = (
            f"{name}: {len(times.end_ms)} requests, {times.failed} failed",
            len(times.end_ms),
        )
        if times.cpu_s and num:
            told += f", {1e3 * times.cpu_s / num:.2f} ms of CPU for each, warm-up included"
        print(told)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cheap", action="store_true", help="a server that computes nothing")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=6.0, help="that count, of each turn")
    parser.add_argument("--rounds", type=int, default=2, help="of two turns each way")
    parser.add_argument("--tokens", type=int, default=4, help="of each answer")
    parser.add_argument("--threads", type=int, default=1, help="of the server's core")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    options = parse()
    end_on_sigterm()
    facts = machine()
    print_machine(facts)
    found = measure(options)
    print_table(found)
    settings = {name: value for name, value in vars(options).items() if name != "json"}
    table = {title: dict(zip(QUANTILES, values, strict=True)) for title, values in rows(found)}
    times = {name: asdict(value) for name, value in found.items()}
    write_json(
        options.json, {"machine": facts, "settings": settings, "table": table, "times": times}
    )


if __name__ == "__main__":
    main()
