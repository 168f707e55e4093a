"""What the terminal costs: percent of a core and KiB/s written, screen by screen.

The real program runs in a pseudo-terminal and follows, over HTTP, a made-up session with 64 live
requests at 30 steps a second. CPU is utime + stime of the terminal's process, from /proc; bytes
are those that come out of the pseudo-terminal.

    python benchmarks/terminal_cost.py --seconds 20 --out terminal_cost.json
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from servers import environment

SCREENS: Final = {
    "overview": b"1",
    "requests": b"2",
    "kv": b"3",
    "gpu": b"4",
    "steps": b"5",
    "log": b"6",
}
MAX_CPU_PCT: Final = 5.0
MAX_KIB_PER_S: Final = 100.0
MAX_SLOW_KIB_PER_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Cost:
    screen: str
    cpu_pct: float
    kib_per_s: float
    peak_kib_per_s: float
    max_kib_per_s: float = MAX_KIB_PER_S

    @property
    def within_budget(self) -> bool:
        return self.cpu_pct <= MAX_CPU_PCT and self.kib_per_s <= self.max_kib_per_s


class Terminal:
    """The program on the far side of a pseudo-terminal of a given size."""

    def __init__(self, command: list[str], width: int, height: int) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.environ.update(environment(TERM="xterm-256color", COLORTERM="truecolor"))
            os.execv(command[0], command)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        os.kill(self.pid, signal.SIGWINCH)

    def press(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def read_for(self, seconds: float) -> list[int]:
        """Bytes that came out in each whole second."""
        counts: list[int] = []
        end = time.monotonic() + seconds
        second_end, count = time.monotonic() + 1, 0
        while (now := time.monotonic()) < end:
            if now >= second_end:
                counts.append(count)
                second_end, count = second_end + 1, 0
            ready, _, _ = select.select([self._fd], [], [], min(0.1, max(0.0, end - now)))
            if ready:
                count += len(os.read(self._fd, 1 << 16))
        return counts

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.press(b"q")
        with contextlib.suppress(OSError):  # the far side has gone
            self.read_for(5)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                return
            time.sleep(0.05)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def measure(terminal: Terminal, screen: str, seconds: float, max_kib_per_s: float) -> Cost:
    terminal.press(SCREENS[screen])
    terminal.read_for(2)
    before, started = terminal.cpu_seconds(), time.monotonic()
    counts = terminal.read_for(seconds)
    passed = time.monotonic() - started
    if not any(counts):
        raise SystemExit(f"the {screen} screen drew nothing: is the machine too busy to start it?")
    cpu_pct = 100 * (terminal.cpu_seconds() - before) / passed
    mean, peak = sum(counts) / len(counts) / 1024, max(counts) / 1024
    return Cost(screen, cpu_pct, mean, peak, max_kib_per_s)


def watch(url: str, slow: bool) -> int:
    from llmtop.app import run_app
    from llmtop.sources.remote import RemoteSource
    from llmtop.viewing import Viewing

    return run_app(RemoteSource(url), viewing=Viewing(slow=slow))


def run(options: argparse.Namespace) -> list[Cost]:
    width, height = map(int, options.size.split("x"))
    me = [sys.executable, str(Path(__file__).resolve())]
    serve = [*me, "--serve", "--live", str(options.live), "--pages", str(options.pages)]
    server = subprocess.Popen(
        serve + ["--gpu"] * options.gpu, stdout=subprocess.PIPE, text=True, env=environment()
    )
    try:
        port = server.stdout.readline().strip()
        time.sleep(options.warm_up)
        watch = [*me, "--watch", f"http://127.0.0.1:{port}"] + ["--slow"] * options.slow
        terminal = Terminal(watch, width, height)
        most = MAX_SLOW_KIB_PER_S if options.slow else MAX_KIB_PER_S
        try:
            terminal.read_for(options.settle)
            return [measure(terminal, screen, options.seconds, most) for screen in options.screens]
        finally:
            terminal.close()
    finally:
        server.terminate()
        server.wait()


def table(costs: list[Cost]) -> str:
    lines = [f"{'screen':<10}{'cpu %':>8}{'KiB/s':>9}{'peak KiB/s':>12}  budget"]
    lines += [
        f"{c.screen:<10}{c.cpu_pct:>8.1f}{c.kib_per_s:>9.1f}{c.peak_kib_per_s:>12.1f}"
        f"  {'held' if c.within_budget else 'OVER'}"
        for c in costs
    ]
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="per screen")
    parser.add_argument("--warm-up", type=float, default=10.0, help="session before the first look")
    parser.add_argument(
        "--settle", type=float, default=8.0, help="seconds for the program to start"
    )
    parser.add_argument("--size", default="120x40")
    parser.add_argument("--live", type=int, default=64, help="requests under way")
    parser.add_argument("--pages", type=int, default=2048)
    parser.add_argument("--slow", action="store_true", help="as llmtop attach --slow draws")
    parser.add_argument("--gpu", action="store_true", help="a session with a device")
    parser.add_argument("--screens", nargs="+", choices=SCREENS, default=list(SCREENS))
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--watch", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = parsed()
    if options.watch:
        return watch(options.watch, options.slow)
    if options.serve:
        from synthetic_server import serve

        serve(options.live, options.pages, options.gpu)
        return 0
    costs = run(options)
    print(f"{options.size}, {options.live} live requests, {options.pages} pages, 30 steps/s")
    print(table(costs))
    if options.out:
        facts = {"size": options.size, "live": options.live, "pages": options.pages}
        options.out.write_text(json.dumps({**facts, "costs": [asdict(c) for c in costs]}, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
