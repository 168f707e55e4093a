"""The load behind the `l` key: a thread of its own that starts, stops and goes away."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from llmtop.load import LoadProgress
from llmtop.screens import load
from llmtop.screens.load import LoadControl


class Generator:
    """Runs until it is stopped, and counts how often it was started."""

    def __init__(self, base_url: str, api_key: str | None) -> None:
        self.progress = LoadProgress(num_in_flight=6, num_ok=41)
        self.starts = 0
        self.running = False
        self.threads: set[int] = set()

    def start(self) -> None:
        self.threads.add(threading.get_ident())
        self.starts += 1
        self.running = True

    async def stop(self) -> None:
        self.threads.add(threading.get_ident())
        await asyncio.sleep(0)
        self.running = False


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> LoadControl:
    monkeypatch.setattr(load, "LoadGenerator", Generator)
    return LoadControl("http://127.0.0.1:1", None)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_it_says_nothing_before_it_was_started(control: LoadControl) -> None:
    assert control.text() == "" and not control.running
    control.close()


def test_each_toggle_turns_it_over(control: LoadControl) -> None:
    control.toggle()
    until(lambda: control.running)
    assert control.text() == "6 streams, 41 done, 0 errors"
    control.toggle()
    until(lambda: not control.running)
    assert control.text() == "stopped, 41 done, 0 errors"
    control.toggle()
    until(lambda: control.running)
    control.close()
    assert not control.running


def test_all_of_it_happens_in_one_other_thread(control: LoadControl) -> None:
    control.toggle()
    until(lambda: control.running)
    control.close()
    generator = control._generator
    assert isinstance(generator, Generator)
    assert len(generator.threads) == 1 and threading.get_ident() not in generator.threads
    assert not any(thread.name == "llmtop-load" for thread in threading.enumerate())


def test_a_load_that_failed_can_be_started_again(control: LoadControl) -> None:
    control.toggle()
    until(lambda: control.running)
    generator = control._generator
    assert isinstance(generator, Generator)
    generator.running, generator.progress.error = False, "no answer"
    assert control.error == "no answer"
    control.toggle()
    until(lambda: generator.starts == 2)
    control.close()
