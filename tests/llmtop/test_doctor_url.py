"""`llmtop doctor URL` against servers that answer as real ones do, and against broken ones."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llmtop.cli import main
from llmtop.sources.page_client import Limits
from llmtop.trust import trusted
from profiler.foreign.names import BY_NAME
from profiler.foreign.reading import read

PAGES = Path(__file__).parents[1] / "data" / "metrics"
TEXT, HTML, JSON = "text/plain; version=0.0.4", "text/html", "application/json"
Answers = dict[str, tuple[int, str, bytes]]
Serve = Callable[[Answers], str]

ENGINES = {
    "llamacpp.prom": "llama.cpp",
    "lmdeploy.prom": "LMDeploy",
    "sglang_legacy.prom": "SGLang",
    "triton.prom": "Triton",
    "vllm.prom": "vLLM",
    "vllm_counters.prom": "vLLM",
    "vllm_legacy.prom": "vLLM",
}
# Which of our keys each line of the report is about.
KEYS = {
    "running requests": {"running"},
    "waiting requests": {"waiting"},
    "generated tokens": {"generation_tokens", "generation_tokens_at_end"},
    "prompt tokens": {"prompt_tokens"},
    "requests done": {"finished"},
    "preemptions": {"preemptions"},
    "KV usage": {"kv_usage"},
    "prefix cache hits": {"prefix_hits", "prefix_hit_rate"},
    "time to first token": {"ttft"},
    "time between tokens": {"itl", "generation_s"},
    "time of a request": {"e2el"},
    "time in the queue": {"queue"},
    "time in prefill": {"prefill"},
    "time in decode": {"decode"},
}


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[ThreadingHTTPServer] = []

    def start(answers: Answers) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = answers.get(self.path, (404, TEXT, b""))
                self.send_response(status)
                self.send_header("content-type", kind)
                if 300 <= status < 400:
                    self.send_header("location", "http://elsewhere.invalid/")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_every_page_that_we_have_is_a_case() -> None:
    assert {page.name for page in PAGES.glob("*.prom")} == ENGINES.keys() | {"dcgm.prom"}


@pytest.mark.parametrize("name", ENGINES)
def test_found_is_what_attach_reads_and_missing_what_it_does_not(
    name: str, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (PAGES / name).read_text()
    url = serve({"/metrics": (200, TEXT, text.encode())})
    assert main(["doctor", url, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["url"], report["engine"], report["page"]) == (url, ENGINES[name], "/metrics")
    sample = read(text, BY_NAME[ENGINES[name]], 0)
    told = sample.gauges.keys() | sample.counters.keys() | sample.histograms.keys()
    for signal in report["signals"]:
        has = signal["status"] in ("found", "renamed")
        assert has == bool(told & KEYS[signal["what"]]), signal
        assert bool(signal["name"]) == (signal["status"] != "missing")
        if has:
            assert re.search(rf"^{re.escape(signal['name'])}", text, re.MULTILINE)
        else:
            assert signal["remark"], "it says why"
    assert {view["what"] for view in report["views"] if not view["shown"]} == {
        "each request", "KV blocks", "GPUs", "engine steps",
    }  # fmt: skip
    assert not set(report["unread"]) & {signal["name"] for signal in report["signals"]}


def test_an_old_name_is_told_with_its_new_one(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    page = b"vllm:gpu_cache_usage_perc 0.5\n# TYPE vllm:num_preemptions counter\n"
    url = serve({
        "/metrics": (200, TEXT, page),
        "/version": (200, JSON, b'{"version": "0.6.3\\u001b[31m"}'),
        "/v1/models": (200, JSON, b'{"data": [{"id": "qwen", "owned_by": "vllm"}]}'),
    })  # fmt: skip
    assert main(["doctor", url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{url} is vLLM 0.6.3, serving qwen"
    (usage,) = [line for line in lines if "KV usage" in line]
    assert usage.split()[0] == "renamed" and "called vllm:kv_cache_usage_perc by other" in usage
    (preempted,) = [line for line in lines if "preemptions" in line]
    assert preempted.split()[0] == "quiet"
    assert any("--kv-events-config" in line for line in lines)


@pytest.mark.parametrize(
    ("answers", "engine", "words"),
    [
        ({"/api/version": (200, JSON, b'{"version": "0.9"}')}, "Ollama", "llmtop proxy"),
        ({"/props": (200, JSON, b'{"build_info": "b1"}')}, "llama.cpp", "--metrics"),
        ({"/server_info": (200, JSON, b'{"version": "1"}')}, "SGLang", "--enable-metrics"),
        (
            {
                "/version": (200, JSON, b'{"version": "1"}'),
                "/v1/models": (200, JSON, b'{"data": [{"id": "m", "owned_by": "vllm"}]}'),
                "/metrics": (200, TEXT, b"python_info 1\n"),
            },
            "vLLM",
            "--disable-log-stats",
        ),
        ({"/metrics": (200, JSON, b"[]")}, "TensorRT-LLM", "forgets what was read"),
        (
            {"/v1/models": (200, JSON, b'{"data": [{"id": "m", "owned_by": "somebody"}]}')},
            "OpenAI API",
            "llmtop proxy",
        ),
        ({"/metrics": (200, TEXT, (PAGES / "dcgm.prom").read_bytes())}, "DCGM", "--gpu-metrics"),
    ],
)
def test_a_server_without_metrics_is_named_with_what_would_help(
    answers: Answers, engine: str, words: str, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", serve(answers)]) == (0 if engine == "Ollama" else 1)
    text = capsys.readouterr().out
    assert engine in text.splitlines()[0] and words in text


def test_one_of_ours_shows_everything(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    hello = b'{"schema": 1, "version": "0.1.0", "model": "m"}'
    assert main(["doctor", serve({"/v1/llmtop/hello": (200, JSON, hello)})]) == 0
    out = capsys.readouterr().out
    assert "is llmtop 0.1.0, serving m" in out and "everything" in out


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"/metrics": (401, TEXT, b"")}, "wants a key (status 401)"),
        ({"/metrics": (302, TEXT, b"")}, "redirects elsewhere (status 302)"),
        ({"/metrics": (200, HTML, b"<html>vllm:x</html>")}, "is a web page, no metrics"),
        ({"/metrics": (500, TEXT, b"")}, "answers with status 500"),
        ({}, "shows no metrics that are known"),
        ({"/metrics": (200, TEXT, b"\x00\xff" * 500)}, "shows no metrics that are known"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_a_hint(
    answers: Answers, words: str, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", serve(answers)]) == 1
    refused(capsys, words)


def refused(capsys: pytest.CaptureFixture[str], words: str) -> None:
    got = capsys.readouterr()
    lines = got.err.splitlines()
    assert got.out == "" and words in lines[0], got.err
    assert len(lines) <= 2 and all(line.startswith("hint: ") for line in lines[1:])


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        assert main(["doctor", f"http://127.0.0.1:{holder.getsockname()[1]}"]) == 1
    refused(capsys, "no connection")


def test_no_such_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "http://no-such-host.invalid:8000"]) == 1
    refused(capsys, "no connection")


def test_a_server_that_says_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmtop.checks.server.LIMITS", Limits(step_s=0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert main(["doctor", f"http://127.0.0.1:{silent.getsockname()[1]}"]) == 1
    refused(capsys, "no answer in time")


def test_a_server_that_trickles(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmtop.checks.server.LIMITS", Limits(whole_s=0.3))
    stop = threading.Event()

    def trickle(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
            while not stop.wait(0.02):
                try:
                    peer.sendall(b"x")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,))
        thread.start()
        assert main(["doctor", f"http://127.0.0.1:{listener.getsockname()[1]}"]) == 1
        stop.set()
        thread.join()
    refused(capsys, "no answer in time")


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/metrics" else 404)
        self.send_header("content-type", TEXT)
        self.end_headers()
        self.wfile.write(b"vllm:num_requests_running 1\n")

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_tls_where_there_is_none_and_a_certificate_that_nobody_trusts(
    serve: Serve,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = serve({"/metrics": (200, TEXT, b"vllm:x 1\n")})
    assert main(["doctor", plain.replace("http:", "https:")]) == 1
    refused(capsys, "TLS failed")
    cert, key = tmp_path / "cert", tmp_path / "key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *args: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://127.0.0.1:{server.server_port}"
    assert main(["doctor", url]) == 1
    hint = capsys.readouterr().err.splitlines()[1]
    assert "certificate is not trusted" in hint and "SSL_CERT_FILE" in hint
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    trusted.cache_clear()
    assert main(["doctor", url]) == 0, "what the hint says helps"
    assert f"{url} is vLLM" in capsys.readouterr().out
    trusted.cache_clear()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://", "http://a b", "http://u:p@h", "http://h:99999"]
)
def test_what_is_no_address_is_wrong_usage(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", url]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert main(["doctor", "http://127.0.0.1:1", "--measure"]) == 2
