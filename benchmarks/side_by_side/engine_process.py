"""An engine in a process of its own, asked over its pipes."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orders import AnyOrder, Settings, to_message

CHILD = Path(__file__).with_name("child.py")
_END_S = 20.0


class EngineFailed(Exception):
    """The engine said what went wrong, or its process ended, or time was up."""


class EngineProcess:
    """Loads its model on construction. `facts` is what the engine says of itself.

    Raises: EngineFailed from the constructor if it is not ready by `deadline` (time.monotonic).
    """

    def __init__(
        self, name: str, settings: Settings, env: Mapping[str, str], deadline: float
    ) -> None:
        self.name = name
        begin = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, str(CHILD), name, json.dumps(asdict(settings))],
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.facts: dict[str, Any] = self._answer(deadline)["facts"]
        except BaseException:
            self.close()
            raise
        self.facts["ready_s"] = round(time.monotonic() - begin, 1)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, order: AnyOrder, deadline: float) -> dict[str, Any]:
        """The answer to an order. Raises: EngineFailed; after `deadline` the process is ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(to_message(order)) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise EngineFailed("its process has ended") from error
        return self._answer(deadline)

    def close(self) -> None:
        """Ends the process: by the end of its orders, and if that does not help, at once."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_END_S if self.is_alive else 0)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _answer(self, deadline: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            self._process.kill()
            raise EngineFailed("time is up") from None
        if line is None:
            raise EngineFailed("its process has ended")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EngineFailed(answer["error"])
        return answer

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)
