"""A DCGM exporter beside an engine, over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from llmtop.cli import main
from llmtop.sources.gpufeed import GpuFeed
from llmtop.sources.page_client import PageClient
from profiler.events import AnyEvent, GpuAbsent, GpuSample, Log

PAGE = b"""DCGM_FI_DEV_FB_USED{gpu="0",modelName="H100"} 1024
DCGM_FI_DEV_FB_FREE{gpu="0",modelName="H100"} 3072
"""


class Exporter:
    def __init__(self) -> None:
        self.status, self.body = 200, PAGE
        self.asked: list[tuple[str, str | None]] = []
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                exporter.asked.append((self.path, self.headers["authorization"]))
                self.send_response(exporter.status)
                self.end_headers()
                self.wfile.write(exporter.body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    exporter = Exporter()
    yield exporter
    exporter.server.shutdown()
    exporter.server.server_close()


def test_devices_come_and_what_is_wrong_is_told_once(exporter: Exporter) -> None:
    heard: list[AnyEvent] = []
    feed = GpuFeed(exporter.url, heard.append)
    with PageClient() as client:
        feed.read(client)
        assert [type(event) for event in heard] == [GpuSample]
        heard.clear()
        exporter.status = 503
        for _ in range(3):
            feed.read(client)
        assert [type(event) for event in heard] == [GpuAbsent, Log]
        assert heard[0] == GpuAbsent(heard[0].t_ns, "the exporter answered with status 503")
        exporter.status, exporter.body = 200, b"<html>"
        feed.read(client)
        assert isinstance(heard[2], GpuAbsent) and "no page of a DCGM" in heard[2].reason
        exporter.body = PAGE
        feed.read(client)
        assert isinstance(heard[-1], GpuSample)
    assert set(exporter.asked) == {("/metrics", None), ("/v1/models", None)}, "no key goes there"


def test_a_path_that_is_given_is_kept() -> None:
    assert GpuFeed("http://box:9400/gpu/metrics", print).url == "http://box:9400/gpu/metrics"


def test_what_goes_with_a_metrics_page_alone(capsys: pytest.CaptureFixture[str]) -> None:
    gone = "http://127.0.0.1:9"
    assert main(["attach", gone, "--gpu-metrics", gone, "--once"]) == 1
    assert "shows no metrics page now" in capsys.readouterr().err
    assert main(["attach", gone, "--kv-events", "tcp://x", "--once"]) == 2
    assert "no endpoint of KV events" in capsys.readouterr().err
