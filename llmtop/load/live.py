"""One line that says how far a load run is."""

from __future__ import annotations

import asyncio
import time
from typing import Final, TextIO

from llmtop.load.progress import LoadProgress
from llmtop.load.spec import LoadSpec

TERMINAL_PERIOD_S: Final = 0.25
PLAIN_PERIOD_S: Final = 10.0
NS_PER_S: Final = 1e9
ERASE_LINE: Final = "\r\x1b[2K"


class LiveLine:
    """Rewrites one line of a terminal four times a second; elsewhere a plain line every 10 s."""

    def __init__(self, spec: LoadSpec, progress: LoadProgress, out: TextIO) -> None:
        self._spec = spec
        self._progress = progress
        self._out = out
        self._rewrites = out.isatty()
        self._last = (time.monotonic_ns(), 0)

    async def run(self) -> None:
        """Until cancelled; then the line is gone."""
        period_s = TERMINAL_PERIOD_S if self._rewrites else PLAIN_PERIOD_S
        try:
            while True:
                await asyncio.sleep(period_s)
                self._write(progress_line(self._spec, self._progress, self._rate()))
        finally:
            if self._rewrites:
                self._out.write(ERASE_LINE)
                self._out.flush()

    def _write(self, line: str) -> None:
        self._out.write(f"{ERASE_LINE}{line}" if self._rewrites else f"{line}\n")
        self._out.flush()

    def _rate(self) -> float:
        """Output tokens per second over at least the last second."""
        now_ns, num_tokens = time.monotonic_ns(), self._progress.num_output_tokens
        then_ns, then_tokens = self._last
        rate = (num_tokens - then_tokens) * NS_PER_S / max(1, now_ns - then_ns)
        if now_ns - then_ns > NS_PER_S:
            self._last = (now_ns, num_tokens)
        return rate


def progress_line(spec: LoadSpec, progress: LoadProgress, tokens_per_s: float) -> str:
    """The state of a run, in fewer than 80 characters."""
    if progress.t_start_ns is None:
        return "asking the server for its model and tokenizer"
    if progress.warming_up:
        return f"warm-up, {progress.num_in_flight} in flight"
    total = "" if spec.num_requests is None else f"/{spec.num_requests}"
    elapsed_s = (time.monotonic_ns() - progress.t_start_ns) / NS_PER_S
    limit = "" if spec.duration_s is None else f"/{spec.duration_s:g}"
    failed = f", {progress.num_failed} failed" if progress.num_failed else ""
    return (
        f"{progress.num_done}{total} done{failed}, {progress.num_in_flight} in flight, "
        f"{tokens_per_s:.0f} tok/s, {elapsed_s:.0f}{limit} s"
    )
