"""The two processes of a proxy: one relays, one observes; and what is left when one is killed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from llmtop.commands.listen import open_socket, url_of
from llmtop.proxy.config import ProxyConfig
from llmtop.proxy.facts import models_of
from llmtop.trust import trusted
from profiler.errors import SessionFileError
from profiler.events import RequestFinished
from profiler.session.reader import SessionReader

ROOT = Path(__file__).resolve().parents[3]
# What a killed proxy may lose, and how late a busy machine may run its processes.
BOUND_S, MARGIN_S = 0.5, 1.0
ANSWER = b'{"choices":[{"text":"word"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}'


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b'{"data":[{"id":"m"}]}')

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self._answer(ANSWER)

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Proxy:
    """A proxy's processes, started as the terminal starts them."""

    def __init__(self, upstream: str, folder: Path) -> None:
        self.session = folder / "session.db"
        self.stderr = folder / "stderr"
        self.folder = Path(tempfile.mkdtemp())  # a socket's path is to be short
        with open_socket("127.0.0.1", 0) as listener, self.stderr.open("wb") as stderr:
            url, descriptor = url_of(listener), listener.fileno()
            path = str(self.session)
            config = ProxyConfig(upstream, socket_fd=descriptor, api_key="k", session_path=path)
            self.process = subprocess.Popen(
                (sys.executable, "-m", "llmtop.proxying"),
                stdin=subprocess.PIPE,
                stderr=stderr,
                pass_fds=(descriptor,),
                cwd=ROOT,
                env=os.environ | {"TMPDIR": str(self.folder)},
            )
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(config) + b"\n")
        self.process.stdin.flush()
        headers = {"authorization": "Bearer k"}
        self.client = httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)
        assert self.client.get("/v1/llmtop/hello").json()["schema"]

    @property
    def observer_pid(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text())

    def ask(self) -> None:
        answer = self.client.post("/v1/completions", json={"prompt": "x"})
        assert answer.content == ANSWER

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.client.close()
        shutil.rmtree(self.folder)

    def finished(self) -> list[int]:
        """The requests that the recording has an end of."""
        return [event.request for event in self.ends()]

    def ends(self) -> list[RequestFinished]:
        try:
            reader = SessionReader(self.session)
        except SessionFileError:
            return []  # nothing was written yet
        with contextlib.closing(reader):
            return [event for _, event in reader.events() if isinstance(event, RequestFinished)]


@pytest.fixture
def proxy(upstream: str, tmp_path: Path) -> Iterator[Proxy]:
    proxy = Proxy(upstream, tmp_path)
    yield proxy
    proxy.kill()


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def kinds_in(stream: httpx.Response) -> Iterator[str]:
    for line in stream.iter_lines():
        if line.startswith("event: "):
            yield line.removeprefix("event: ")


def wait_for(what: Any) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ask_until_killed(proxy: Proxy) -> None:
    with contextlib.suppress(httpx.HTTPError):
        while True:
            proxy.ask()


def test_a_stop_records_all_and_the_stream_says_so(proxy: Proxy) -> None:
    with proxy.client.stream("GET", "/v1/llmtop/events") as stream:
        kinds = kinds_in(stream)
        assert stream.status_code == 200 and next(kinds) == "keyframe"
        for _ in range(3):
            proxy.ask()
        observer = proxy.observer_pid
        assert proxy.process.stdin is not None
        proxy.process.stdin.close()
        told = list(kinds)
    assert told.count("request_finished") == 3
    assert told[-1] == "phase", "the end of the session is the last that is told"
    assert proxy.process.wait(60) == 0 and not is_running(observer)
    assert proxy.finished() == [1, 2, 3]
    assert proxy.stderr.read_bytes() == b"" and not list(proxy.folder.iterdir())


def test_what_passes_goes_on_without_the_observer(proxy: Proxy) -> None:
    proxy.ask()
    os.kill(proxy.observer_pid, signal.SIGKILL)
    wait_for(lambda: b"nothing is measured any more" in proxy.stderr.read_bytes())
    proxy.ask()
    refused = proxy.client.get("/v1/llmtop/hello")
    assert refused.status_code == 502 and json.loads(refused.content)["error"]
    proxy.process.send_signal(signal.SIGINT)
    assert proxy.process.wait(60) == 130 and not list(proxy.folder.iterdir())


def test_what_was_told_before_the_relay_was_killed_is_written_and_nobody_is_left(
    proxy: Proxy,
) -> None:
    observer = proxy.observer_pid
    with proxy.client.stream("GET", "/v1/llmtop/events") as stream:
        kinds = kinds_in(stream)
        assert next(kinds) == "keyframe"
        proxy.ask()
        assert "request_finished" in kinds  # reads up to it
        proxy.process.kill()
        with contextlib.suppress(httpx.HTTPError):
            list(kinds)
    wait_for(lambda: not is_running(observer))
    assert proxy.finished() == [1] and not list(proxy.folder.iterdir())


def test_what_was_written_before_both_were_killed_is_there(proxy: Proxy) -> None:
    observer = proxy.observer_pid
    proxy.ask()
    wait_for(lambda: proxy.finished() == [1])
    os.kill(observer, signal.SIGKILL)
    proxy.process.kill()
    wait_for(lambda: not is_running(observer))
    assert proxy.finished() == [1] and not list(proxy.folder.iterdir())


def test_kill_of_both_under_load_loses_half_a_second_at_most(proxy: Proxy) -> None:
    observer = proxy.observer_pid
    asking = threading.Thread(target=ask_until_killed, args=(proxy,))
    asking.start()
    wait_for(proxy.finished)
    go_on_ns = time.monotonic_ns() + int((BOUND_S + MARGIN_S) * 1e9)  # longer than the bound
    wait_for(lambda: time.monotonic_ns() > go_on_ns)
    t_killed_ns = time.monotonic_ns()
    os.kill(observer, signal.SIGKILL)
    proxy.process.kill()
    asking.join()
    wait_for(lambda: not is_running(observer))
    ends = proxy.ends()
    assert sorted(end.request for end in ends) == list(range(1, len(ends) + 1))
    assert t_killed_ns - ends[-1].t_ns < (BOUND_S + MARGIN_S) * 1e9


async def test_asking_again_for_a_name_makes_no_certificates_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They take 20 ms, and a server that names no model is asked every 5 s."""
    made: list[ssl.SSLContext] = []

    def counted(*given: Any) -> ssl.SSLContext:
        made.append(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        return made[-1]

    trusted.cache_clear()
    monkeypatch.setattr(ssl, "create_default_context", counted)
    for _ in range(3):
        assert await models_of("http://127.0.0.1:9", None) == []
    assert len(made) == 1
    trusted.cache_clear()
