"""A load run at the command line: a live line, and Ctrl-C ends it in order."""

from __future__ import annotations

import asyncio
import signal
import sys

from llmtop.load import LoadProgress, LoadReport, LoadSpec, run_load
from llmtop.load.live import LiveLine


def run_to_end(spec: LoadSpec) -> tuple[LoadReport, bool]:
    """The report, and whether Ctrl-C ended the run before its time."""
    return asyncio.run(_run(spec))


async def _run(spec: LoadSpec) -> tuple[LoadReport, bool]:
    stop, progress = asyncio.Event(), LoadProgress()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    live = asyncio.create_task(LiveLine(spec, progress, sys.stderr).run())
    try:
        report = await run_load(spec, progress, stop)
    finally:
        live.cancel()
        await asyncio.gather(live, return_exceptions=True)
        loop.remove_signal_handler(signal.SIGINT)
    return report, stop.is_set()
