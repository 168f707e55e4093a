"""The client against a process that speaks the core's language and has no model."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from engine.config import EngineConfig, SamplingParams
from engine.request import EngineRequest, TokenOutput
from engine.server.client import CoreClient, CoreDiedError
from engine.server.launch import CoreLaunch
from engine.server.pulse import Watchdog
from profiler.events import Phase

# Answers each request with one token, and ends as it is told to.
CORE = """
import os, signal, sys, time
from engine.request import TokenOutput
from engine.server.core_process import Link, die_with_parent, read_order
from engine.server.wire import Abort, Add, Failed, Located, Outputs, Shutdown
from profiler.events import Phase
order, wait_for_end = read_order()
die_with_parent(wait_for_end)
link = Link(order.endpoint)
print("the core speaks", flush=True)
print("USDT:2026-11-28 13:17:24 1:1 SyncActivityProfilerHandler.cpp:59] profiler_stop", flush=True)
link.send(Located("/model", order.config.model))
while True:
    command = link.receive(block=True)
    match command:
        case Add(request):
            link.send(Outputs([TokenOutput(request.request, [7])], [Phase(1, "step")]))
        case Abort(_, "fail"):
            link.send(Failed("it broke", "mend it"))
            link.close()
            sys.exit(1)
        case Abort(_, "end and fail"):
            link.close()
            if os.fork():
                os._exit(1)
            os.close(1)
            os.close(2)
            time.sleep(0.1)
            link = Link(order.endpoint)
            link.send(Failed("it broke late", "mend it"))
            link.close()
            os._exit(0)
        case Abort(_, "crash"):
            os.kill(os.getpid(), signal.SIGKILL)
        case Abort(_, "hang"):
            os.kill(os.getpid(), signal.SIGSTOP)
        case Shutdown():
            link.close()
            sys.exit(0)
"""


class Listener:
    def __init__(self) -> None:
        self.heard: asyncio.Queue[object] = asyncio.Queue()
        self.lines: list[str] = []

    def on_located(self, path, name):
        self.heard.put_nowait((path, name))

    def on_ready(self, ready):
        self.heard.put_nowait(ready)

    def on_outputs(self, outputs):
        self.heard.put_nowait(outputs)

    def on_events(self, events):
        self.heard.put_nowait(events)

    def on_refused(self, refused):
        self.heard.put_nowait(refused)

    def on_output_line(self, line):
        self.lines.append(line)

    def on_failed(self, error):
        self.heard.put_nowait(error)

    async def next(self):
        return await asyncio.wait_for(self.heard.get(), 20)


@pytest.fixture
def launch():
    command = (sys.executable, "-c", CORE)
    launch = CoreLaunch(EngineConfig(model="m"), Path("/nowhere"), command=command)
    yield launch
    launch.end(0.0)


@pytest.fixture
async def listener():
    return Listener()


@pytest.fixture
async def client(launch, listener):
    client = CoreClient(launch, listener, Watchdog())
    assert await listener.next() == ("/model", "m")
    yield client
    await client.stop(5.0)


def request(number: int = 1) -> EngineRequest:
    return EngineRequest(number, "n", (1, 2), SamplingParams(stop=("x",)))


async def test_requests_go_there_and_outputs_and_events_come_back(client, listener):
    for number in (1, 2):
        client.add(request(number))
        assert await listener.next() == [TokenOutput(number, [7])]
        assert await listener.next() == [Phase(1, "step")]
    assert client.alive


async def test_nobody_else_can_reach_the_core_s_socket(client, launch):
    mode = stat.S_IMODE(launch.folder.stat().st_mode)
    assert mode == 0o700


async def test_a_reported_failure_is_told_once(client, listener):
    client.abort(1, "fail")
    error = await listener.next()
    assert (error.message, error.hint) == ("it broke", "mend it")
    await client.stop(5.0)
    assert listener.heard.empty()
    assert not client.alive


async def test_last_words_that_come_after_the_end_are_still_told(client, listener):
    client.abort(1, "end and fail")
    assert (await listener.next()).message == "it broke late"


async def test_a_killed_core_is_told_with_its_last_line(client, listener):
    client.abort(1, "crash")
    error = await listener.next()
    assert isinstance(error, CoreDiedError)
    assert error.message == "the engine core was killed by signal 9"
    assert error.hint == "Its last line: the core speaks"
    assert listener.lines == ["the core speaks"]
    client.add(request())  # to nobody: no error, and it is not waited for


async def test_a_stop_ends_the_core_and_is_no_failure(client, listener, launch):
    await client.stop(5.0)
    assert launch.process.returncode == 0
    assert listener.heard.empty()
    assert not launch.folder.exists()


async def test_a_core_that_does_not_listen_is_killed_in_time(client, listener, launch):
    client.abort(1, "hang")
    await client.stop(0.2)
    assert launch.process.returncode == -signal.SIGKILL
    assert listener.heard.empty()


async def test_a_core_can_be_stopped_again_before_word_of_its_end_has_come(client, launch):
    await client.stop(5.0)
    client._exited.clear()
    await client.stop(0.01)
    client.abort(1, "disconnect")
    assert launch.process.returncode == 0


async def test_a_core_without_its_server_ends(client, listener, launch):
    launch.process.stdin.close()
    error = await listener.next()
    assert error.message == "the engine core ended with status 0"
    assert not os.path.exists(f"/proc/{launch.pid}")
