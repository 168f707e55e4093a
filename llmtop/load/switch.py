"""Load that can be switched on and off, as the terminal's `l` key does."""

from __future__ import annotations

import asyncio

from llmtop.errors import LlmtopError
from llmtop.load.generator import run_load
from llmtop.load.progress import LoadProgress
from llmtop.load.spec import LoadSpec, demo_spec


class LoadGenerator:
    """Varied load on one server, through its HTTP API, from `start` until `stop`.

    Both belong to the event loop's thread. Every start sends other prompts than the one before,
    so that it is not the prefix cache alone that answers. `progress` is of the newest run.
    """

    def __init__(self, base_url: str, api_key: str | None = None) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._num_starts = 0
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.progress = LoadProgress()

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begins to send; nothing happens if it already does."""
        if self.running:
            return
        self._stop = asyncio.Event()
        self.progress = LoadProgress()
        spec = demo_spec(self._base_url, self._api_key, seed=self._num_starts)
        self._num_starts += 1
        self._task = asyncio.create_task(self._run(spec))

    async def stop(self) -> None:
        """Cancels what is under way and returns when it is gone."""
        self._stop.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, spec: LoadSpec) -> None:
        try:
            await run_load(spec, self.progress, self._stop)
        except LlmtopError as error:
            self.progress.error = error.message
