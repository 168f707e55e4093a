"""A real server that is held to objectives: told, posted, recorded, and found again in the file."""

from __future__ import annotations

import json
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from llmtop.cli import main
from profiler.events import Finding
from profiler.findings.watch import derive
from profiler.session.reader import SessionReader

ALERT_S = 15.0


class Hook(BaseHTTPRequestHandler):
    posted: list[Any]
    arrived: threading.Event

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.posted.append(json.loads(body))
        self.send_response(204)
        self.end_headers()
        self.arrived.set()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Any]:
    handler = type("OwnHook", (Hook,), {"posted": [], "arrived": threading.Event()})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    handler.url = f"http://127.0.0.1:{server.server_port}/alerts"
    yield handler
    server.shutdown()
    thread.join()


def ask(server: Any, until: threading.Event) -> None:
    request = {"prompt": "hello", "max_tokens": 20, "ignore_eos": True}
    deadline = time.monotonic() + ALERT_S
    while not until.is_set() and time.monotonic() < deadline:
        assert server.client.post("/v1/completions", json=request).status_code == 200


def test_a_missed_objective_of_a_real_server(
    start_server: Any, hook: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    slo = "ttft_p50<0.001ms,itl_p50<60s"
    server = start_server(slo=slo, alert_webhook=hook.url).wait_until_ready()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: ask(server, hook.arrived), range(3)))
    assert [(p["status"], p["rule"]) for p in hook.posted] == [("open", "slo ttft_p50<0.001ms")]
    server.process.send_signal(signal.SIGTERM)
    assert server.ended() == 0

    reader = SessionReader(server.session)
    told = [event for _, event in reader.events() if isinstance(event, Finding)]
    assert told == derive(reader.events())
    assert [f.rule for f in told] == ["slo ttft_p50<0.001ms"], "a steady load has no other finding"
    assert reader.state_at(reader.end_ns).findings.all() == told
    reader.close()
    ((value,),) = sqlite3.connect(server.session).execute(told[0].sql).fetchall()
    assert value == pytest.approx(told[0].evidence["ttft_p50"])

    assert main(["explain", str(server.session), "--fail-if", "ttft_p50>0.001ms"]) == 1
    assert "objective ttft_p50<0.001ms is missed" in capsys.readouterr().out
    assert main(["explain", str(server.session), "--slo", "ttft_p50<60s"]) == 0
    assert "nothing found" in capsys.readouterr().out
