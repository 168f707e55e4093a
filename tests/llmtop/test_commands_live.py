"""The commands as a person runs them, with the real engine, server, recorder and sockets."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]


class Serving(NamedTuple):
    process: subprocess.Popen[str]
    url: str
    env: dict[str, str]


def start(
    *arguments: str, env: dict[str, str], stderr: IO[str] | int = subprocess.PIPE
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "llmtop", *arguments],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )


def run(*arguments: str, env: dict[str, str]) -> tuple[int, str, str]:
    process = start(*arguments, env=env)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """`llmtop serve --headless` on a free port, with the smallest model there is."""
    home = tmp_path_factory.mktemp("home")
    env = os.environ | {"LLMTOP_HOME": str(home), "OMP_NUM_THREADS": "1"}
    env.pop("LLMTOP_API_KEY", None)
    flags = ("--headless", "--port", "0", "--num-threads", "1", "--num-gpu-blocks-override", "256")
    log = home / "stderr"
    with log.open("w") as stderr:
        process = start("serve", "random:tiny", *flags, env=env, stderr=stderr)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("ready: http://127.0.0.1:"), log.read_text()
    yield Serving(process, line.split()[1].rstrip(","), env)
    if process.poll() is None:
        process.kill()
        process.wait()


SHORT = ("--input-len", "16-32", "--output-len", "8", "--concurrency", "2")


def test_load_measures_the_real_server(serving: Serving) -> None:
    arguments = ("load", serving.url, *SHORT, "--num-prompts", "6", "--json", "-")
    code, out, err = run(*arguments, env=serving.env)
    assert code == 0, err
    report = json.loads(out)
    assert (report["num_ok"], report["num_failed"], report["num_warmup"]) == (6, 0, 1)
    assert report["num_output_tokens"] == 48
    assert report["itl_per_token"] and report["usage"]
    assert report["latencies"]["ttft_ms"]["n"] == 6
    # A token that ends within a character comes in the chunk of the next one; of the first chunk's
    # tokens none has a gap.
    assert 6 * 4 <= report["latencies"]["itl_ms"]["n"] <= 6 * 7
    assert 6 * 12 < report["num_prompt_tokens"] < 6 * 40


def test_a_shared_prefix_comes_out_of_the_cache(serving: Serving) -> None:
    prefix = ("--shared-prefix-share", "1", "--shared-prefix-len", "64")
    arguments = ("load", serving.url, "--input-len", "96", "--output-len", "4", *prefix)
    code, out, err = run(
        *arguments, "--concurrency", "1", "--num-prompts", "4", "--json", "-", env=serving.env
    )
    assert code == 0, err
    report = json.loads(out)
    assert report["num_cached_tokens"] >= 4 * 32


def test_one_look_at_the_real_server_is_a_document(serving: Serving) -> None:
    code, out, err = run("attach", serving.url, "--once", "--json", env=serving.env)
    assert code == 0, err
    found = json.loads(out)
    assert (found["phase"], found["model"]) == ("ready", "random:tiny")
    assert found["requests"]["finished"] == num_finished(serving.url) >= 7
    assert found["latency"]["ttft_ms"]["n"] > 0
    kv = found["kv"]
    assert kv["pages_used"] + kv["pages_cached"] + kv["pages_free"] == kv["pages"] == 256


def test_a_session_is_exported_and_reported_while_it_is_recorded(
    serving: Serving, tmp_path: Path
) -> None:
    lines, trace = tmp_path / "e.ndjson", tmp_path / "t.json"
    for form, path in (("--json", lines), ("--perfetto", trace), ("--html", tmp_path / "p.html")):
        code, _, err = run("export", "latest", form, "-o", str(path), env=serving.env)
        assert code == 0, err
    events = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    entries = json.loads(trace.read_text())["traceEvents"]
    queued = {event["request"] for event in events if event["kind"] == "request_queued"}
    assert {entry["id"] for entry in entries if entry["ph"] == "b"} >= queued
    code, out, err = run("report", env=serving.env)
    assert code == 0, err
    assert out.startswith("## random:tiny: ") and "not closed" in out


def num_finished(url: str) -> float:
    """Requests that the server has answered in full, by its own count."""
    answer = httpx.get(f"{url}/metrics", trust_env=False).raise_for_status()
    lines = answer.text.splitlines()
    return sum(float(x.split()[-1]) for x in lines if x.startswith("vllm:request_success_total"))


def test_ctrl_c_prints_what_was_measured_and_is_130(serving: Serving) -> None:
    process = start("load", serving.url, *SHORT, "--duration", "600", env=serving.env)
    before = num_finished(serving.url)
    while num_finished(serving.url) < before + 4:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "answered, 0 failed" in out and "cancelled under way" in out
    assert "Traceback" not in err


def test_refused_requests_make_the_exit_code_1(serving: Serving) -> None:
    arguments = ("load", serving.url, "--model", "nonsense", *SHORT, "--num-prompts", "2")
    code, out, _ = run(*arguments, env=serving.env)
    assert code == 1
    assert "0 answered, 2 failed" in out, out
    assert "2 x status 404" in out, out


def test_sigterm_drains_and_the_recording_is_whole(serving: Serving) -> None:
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(60) == 0
    code, out, _ = run("sessions", "--json", env=serving.env)
    assert code == 0
    (session,) = json.loads(out)
    assert session["clean_end"] and session["model"] == "random:tiny"
    assert session["num_requests"] >= 12
    assert Path(session["path"]).stat().st_mode & 0o777 == 0o600
    code, out, _ = run("sessions", "--prune", "0", "--yes", env=serving.env)
    assert code == 0 and "removed 1 session" in out
    assert not Path(session["path"]).exists()
