"""What becomes of the processes, the requests and the recording when something ends."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import httpx
from msgspec.structs import asdict

from profiler.errors import SessionFileError
from profiler.events import Log, Phase, RequestAborted, RequestFirstToken, RequestScheduled
from profiler.session.reader import SessionReader
from profiler.state import time_of

# Eight samples, so that it takes seconds on any machine.
LONG = {"prompt": "hello", "max_tokens": 1900, "ignore_eos": True, "stream": True, "n": 8}


LOST_NS = 500_000_000


class Stream(threading.Thread):
    """Reads one streamed answer to its end; `begun` is set once text has come."""

    def __init__(self, url: str, **body: object) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._body = {**LONG, **body}
        self.begun = threading.Event()
        self.events: list[str] = []
        self.broken: str | None = None
        self.start()

    def run(self) -> None:
        url = f"{self._url}/v1/completions"
        try:
            with httpx.stream("POST", url, json=self._body, timeout=60, trust_env=False) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        self.events.append(line[6:])
                        self.begun.set()
        except httpx.HTTPError as error:
            self.broken = str(error)

    def last(self) -> str:
        self.join(30)
        assert not self.is_alive()
        return self.events[-1]


def whole_answer(server):
    """A request without a stream, on its way in a thread; the response comes with `result`."""
    body = {**LONG, "stream": False}
    pool = ThreadPoolExecutor(1)
    return pool.submit(
        httpx.post, f"{server.url}/v1/completions", json=body, timeout=60, trust_env=False
    )


def wait_for_health(server, status):
    deadline = time.monotonic() + 30
    while server.client.get("/health").json() != {"status": status}:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for_kind(path, kind, **fields):
    """Returns when the recording has an event of this kind with these fields."""
    deadline = time.monotonic() + 60
    while True:
        with suppress(SessionFileError), closing(SessionReader(path)) as session:
            for _, event in session.events(0):
                if isinstance(event, kind) and fields.items() <= asdict(event).items():
                    return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def nearly_now(path):
    """Waits until the recording lacks less than the last half second; the time of its end.

    It is asked of the file and not of the clock after a kill: a busy machine may keep the recorder
    waiting, but what it has written by then, no kill may take away.
    """
    deadline = time.monotonic() + 30
    while True:
        with closing(SessionReader(path)) as session:
            t_last_ns = max(time_of(event) for _, event in session.events(0))
            if time.monotonic_ns() - t_last_ns < LOST_NS:
                return t_last_ns
        assert time.monotonic() < deadline
        time.sleep(0.01)


def last_before(path, t_ns):
    """When the newest event of the recording before `t_ns` was, and whether it ended well."""
    with closing(SessionReader(path)) as session:
        times = [time_of(event) for _, event in session.events(0)]
        session.state_at(t_ns)
        return max(when for when in times if when <= t_ns), session.clean_end


def test_when_the_core_is_killed_all_end_with_a_clear_word(start_server):
    server = start_server().wait_until_ready()
    streams = [Stream(server.url) for _ in range(3)]
    for stream in streams:
        assert stream.begun.wait(30)
    whole = whole_answer(server)
    wait_for_kind(server.session, RequestScheduled, request=25)  # after 3 streams of 8
    t_safe_ns = nearly_now(server.session)
    os.kill(server.core_pid, signal.SIGKILL)
    for stream in streams:
        error = json.loads(stream.last())["error"]
        assert error["type"] == "internal_error"
        assert "killed by signal 9" in error["message"]
        assert stream.broken is None
    answer = whole.result(30)
    assert answer.status_code == 500
    assert "killed by signal 9" in answer.json()["error"]["message"]
    assert server.ended() == 1
    assert "error: the engine core was killed by signal 9" in server.stderr.read_text()
    assert last_before(server.session, t_safe_ns) == (t_safe_ns, True)
    with closing(SessionReader(server.session)) as session:
        logs = [event for _, event in session.events(0) if isinstance(event, Log)]
        phases = [event.name for _, event in session.events(0) if isinstance(event, Phase)]
    assert any(log.level == "error" and "signal 9" in log.text for log in logs)
    assert phases[-1] == "stopped"


def test_when_the_server_is_killed_the_core_goes_and_the_session_opens(start_server, process_gone):
    server = start_server().wait_until_ready()
    stream = Stream(server.url)
    assert stream.begun.wait(30)
    core_pid = server.core_pid
    t_safe_ns = nearly_now(server.session)
    server.process.kill()
    assert process_gone(core_pid)
    assert stream.broken is None or "peer closed" in stream.broken
    assert last_before(server.session, t_safe_ns) == (t_safe_ns, False)


def test_when_the_terminal_is_killed_its_session_lacks_nothing(terminal, child, process_gone):
    wait_for_kind(terminal.session, Phase, name="ready")
    terminal.press("l")
    wait_for_kind(terminal.session, RequestFirstToken)
    server_pid = child(terminal.process.pid)
    core_pid = child(server_pid)
    t_safe_ns = nearly_now(terminal.session)
    t_kill_ns = time.monotonic_ns()
    terminal.kill()
    assert process_gone(server_pid) and process_gone(core_pid)
    assert last_before(terminal.session, t_safe_ns) == (t_safe_ns, True)
    with closing(SessionReader(terminal.session)) as session:
        events = [event for _, event in session.events(0)]
        assert session.state_at(session.end_ns).requests.num_running == 0
    assert [event.name for event in events if isinstance(event, Phase)][-2:] == ["drain", "stopped"]
    after = [event for event in events if event.t_ns > t_kill_ns]
    assert {"disconnect"} >= {event.reason for event in after if isinstance(event, RequestAborted)}


def test_a_stop_lets_running_requests_finish_and_takes_no_new_ones(start_server, process_gone):
    server = start_server().wait_until_ready()
    stream = Stream(server.url, max_tokens=600)
    assert stream.begun.wait(30)
    core_pid = server.core_pid
    server.process.terminate()
    wait_for_health(server, "draining")
    refused = server.client.post("/v1/completions", json={"prompt": "a"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert stream.last() == "[DONE]"
    assert json.loads(stream.events[-2])["choices"][0]["finish_reason"] == "length"
    assert server.ended() == 0
    assert process_gone(core_pid)
    assert server.stderr.read_text() == ""
    with closing(SessionReader(server.session)) as session:
        assert session.clean_end
        phases = [event.name for _, event in session.events(0) if isinstance(event, Phase)]
    assert phases[-2:] == ["drain", "stopped"]


def test_a_core_that_hangs_is_told_of_and_the_answer_goes_on_after_it(start_server):
    server = start_server(core_silent_s=3.0).wait_until_ready()
    stream = Stream(server.url, max_tokens=600)
    assert stream.begun.wait(30)
    os.kill(server.core_pid, signal.SIGSTOP)
    wait_for_health(server, "silent")
    refused = server.client.post("/v1/completions", json={"prompt": "a"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    os.kill(server.core_pid, signal.SIGCONT)
    wait_for_health(server, "ready")
    assert stream.last() == "[DONE]"
    assert json.loads(stream.events[-2])["choices"][0]["finish_reason"] == "length"
    server.process.terminate()
    assert server.ended() == 0
    with closing(SessionReader(server.session)) as session:
        events = [event for _, event in session.events(0)]
    texts = [(e.level, e.text) for e in events if isinstance(e, Log)]
    silence = "the engine core has given no sign of life for 3 s; requests are refused meanwhile"
    assert ("error", silence) in texts
    assert ("info", "the engine core answers again") in texts
    phases = [event.name for event in events if isinstance(event, Phase)]
    assert phases[-4:] == ["silent", "ready", "drain", "stopped"]


def test_a_core_that_hangs_does_not_keep_the_server_from_stopping(start_server, process_gone):
    server = start_server(core_silent_s=3.0, drain_timeout_s=600.0).wait_until_ready()
    stream = Stream(server.url)
    assert stream.begun.wait(30)
    core_pid = server.core_pid
    os.kill(core_pid, signal.SIGSTOP)
    server.process.terminate()  # it drains before it knows
    assert server.ended() == 0
    assert process_gone(core_pid)
    assert "stopped before" in json.loads(stream.last())["error"]["message"]


def test_a_second_signal_and_an_end_of_patience_cut_the_drain_short(start_server, process_gone):
    hurried = start_server()
    impatient = start_server(drain_timeout_s=0.2)
    for server in (hurried, impatient):
        server.wait_until_ready()
    for server in (hurried, impatient):
        server.stream = Stream(server.url)
        assert server.stream.begun.wait(30)
    impatient.close_lifeline()
    hurried.process.terminate()
    wait_for_health(hurried, "draining")
    hurried.process.terminate()
    for server in (hurried, impatient):
        assert "stopped before" in json.loads(server.stream.last())["error"]["message"]
        assert server.ended() == 0


def test_a_model_that_is_not_there_is_one_clear_line(start_server, process_gone):
    server = start_server(model="/nowhere/at/all")
    assert server.ended(60) == 1
    first, *rest = server.stderr.read_text().splitlines()
    assert first.startswith("error: ") and "/nowhere/at/all" in first
    assert all(line.startswith("hint: ") for line in rest)
