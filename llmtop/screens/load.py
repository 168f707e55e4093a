"""The built-in load behind the `l` key: requests over HTTP from a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import Final

from llmtop.load import LoadGenerator

_CLOSE_WITHIN_S: Final = 2.0


class LoadControl:
    """Starts and stops the load; its thread begins with the first start and ends with `close`.

    A thread, so that stamping and counting chunks never waits for a frame to be painted.
    """

    def __init__(self, base_url: str, api_key: str | None) -> None:
        self._generator = LoadGenerator(base_url, api_key)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._wanted = False
        self._started = False

    @property
    def running(self) -> bool:
        return self._generator.running

    @property
    def error(self) -> str:
        """The newest failure, or ""."""
        return self._generator.progress.error

    def toggle(self) -> None:
        """Start if it stands, stop if it runs. Returns at once."""
        loop = self._loop or self._open()
        self._wanted = not (self._wanted and self.running)
        self._started = True
        asyncio.run_coroutine_threadsafe(self._switch(self._wanted), loop)

    def text(self) -> str:
        """A few words for the tab line, "" when it was never started."""
        if not self._started:
            return ""
        progress = self._generator.progress
        errors = "error" if progress.num_failed == 1 else "errors"
        counts = f"{progress.num_ok} done, {progress.num_failed} {errors}"
        if self.running:
            return f"{progress.num_in_flight} streams, {counts}"
        return f"stopped, {counts}"

    def close(self) -> None:
        """Cancel what is under way and end the thread."""
        if self._loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        self._thread.join(_CLOSE_WITHIN_S)

    def _open(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="llmtop-load", daemon=True
        )
        self._thread.start()
        return self._loop

    async def _switch(self, on: bool) -> None:
        if on:
            self._generator.start()
        else:
            await self._generator.stop()

    async def _end(self) -> None:
        await self._generator.stop()
        asyncio.get_running_loop().stop()
