"""One of several servers, watched by a thread of its own: none waits for another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from llmtop.errors import LlmtopError
from llmtop.peer import Address
from llmtop.priority import give_way
from llmtop.sanitize import clean_line
from llmtop.sources.asker import Asker
from llmtop.sources.page_client import PageClient
from llmtop.sources.probing import Target, find
from llmtop.sources.scraper import Scraper, TurnedError
from profiler.errors import StreamError
from profiler.events import AnyEvent, Log, TargetState

PERIOD_S: Final = 1.0
_MAX_DETAIL: Final = 120


class Watched:
    """Tells `put` how it stands with the server of number `target`, and what its page says, once a
    second. What is not there is asked for each second too, from the first page on."""

    def __init__(self, target: int, address: Address, put: Callable[[AnyEvent], None]) -> None:
        self._told = TargetState(0, target, address.name, "asked")
        self._address = address
        self._put = put
        self._found: Target | None = None
        self._scraper: Scraper | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"llmtop-{target}", daemon=True)

    def asked(self) -> TargetState:
        """What is known before anybody has answered."""
        return msgspec.structs.replace(self._told, t_ns=time.monotonic_ns())

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns at once: the thread may wait for an answer, and owns nothing else."""
        self._stopping.set()

    def _run(self) -> None:
        give_way()
        with PageClient(self._address.api_key) as client:
            due_s = time.monotonic()
            while not self._stopping.wait(max(0.0, due_s - time.monotonic())):
                self.look(client)
                due_s = max(due_s + PERIOD_S, time.monotonic())

    def look(self, client: PageClient) -> None:
        """Ask once, and tell what came of it."""
        try:
            if self._scraper is None:
                self._meet(find(Asker(client, self._address.url)))
            assert self._scraper is not None
            sample = self._scraper.sample(client)
        except LlmtopError as error:
            what = error.message.removeprefix(f"{self._address.url}: ")
            self._tell("down", f"{what}; {error.hint}" if error.hint else what)
        except StreamError as error:
            if isinstance(error, TurnedError):
                self._scraper = None
            self._tell("down", error.message)
        else:
            if self._told.status != "up":
                self._tell("up")
                kind = f"{self._told.engine} {self._told.version}".rstrip()
                self._log("info", f"reading the metrics of {kind}")
            self._put(msgspec.structs.replace(sample, target=self._told.target))

    def _meet(self, found: Target) -> None:
        self._scraper = Scraper(found)
        engine, version = found.engine.name, clean_line(found.version)
        self._told = msgspec.structs.replace(self._told, engine=engine, version=version)

    def _log(self, level: str, text: str) -> None:
        self._put(Log(time.monotonic_ns(), level, "viewer", f"{self._told.name}: {text}"))

    def _tell(self, status: str, why: str = "") -> None:
        detail = clean_line(why)[:_MAX_DETAIL]
        if status == "down" and self._told.status != "down":
            self._log("warning", detail)
        self._told = msgspec.structs.replace(
            self._told, t_ns=time.monotonic_ns(), status=status, detail=detail
        )
        self._put(self._told)
