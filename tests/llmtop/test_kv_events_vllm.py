"""A real vLLM's KV events, heard by `attach`: what the map says is what the server then does.

`LLMTOP_TEST_VLLM` names the Python of an environment that has vLLM, its CPU build for one; its
start takes a minute or two.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from llmtop.cli import main
from llmtop.sources.kvendpoints import KvEndpoints
from llmtop.sources.kvfeed import KvFeed
from llmtop.sources.metrics import MetricsSource
from llmtop.sources.probing import probe
from profiler.folds.hashedprefixes import shared_prefixes
from profiler.session.reader import SessionReader
from profiler.state import SessionState

PYTHON: Final = os.environ.get("LLMTOP_TEST_VLLM", "")
BLOCK: Final = 32
NUM_BLOCKS: Final = 24
WAIT_S: Final = 60.0
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="LLMTOP_TEST_VLLM names no Python with vLLM"),
]
PREFIX: Final = (
    "You answer questions about trains, in short sentences and with care for detail. " * 5
)


def free_port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])


class Vllm:
    def __init__(self, model: Path, log: Path) -> None:
        port, live, replay = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.kv_events = KvEndpoints(f"tcp://127.0.0.1:{live}", f"tcp://127.0.0.1:{replay}")
        config = (
            f'{{"enable_kv_cache_events": true, "publisher": "zmq", "topic": "kv-events", '
            f'"endpoint": "tcp://*:{live}", "replay_endpoint": "tcp://*:{replay}"}}'
        )
        command = [
            PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model),
            "--served-model-name", "smollm2", "--host", "127.0.0.1", "--port", str(port),
            "--dtype", "float32", "--max-model-len", "512", "--enforce-eager",
            "--block-size", str(BLOCK), "--num-gpu-blocks-override", str(NUM_BLOCKS),
            "--enable-prompt-tokens-details", "--kv-events-config", config,
        ]  # fmt: skip
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        env |= {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_SERVER_DEV_MODE": "1"}
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=out, env=env, start_new_session=True
            )
        self._wait(log)

    def _wait(self, log: Path) -> None:
        for _ in range(600):
            assert self.process.poll() is None, log.read_text()[-3000:]
            try:
                if httpx.get(f"{self.url}/health").status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.5)
        raise AssertionError("vLLM does not become ready")

    def ask(self, prompt: str, max_tokens: int = 1) -> tuple[int, int]:
        """Tokens computed or found for it, and tokens found."""
        body = {"model": "smollm2", "prompt": prompt, "max_tokens": max_tokens, "temperature": 0}
        body["ignore_eos"] = True
        usage = httpx.post(f"{self.url}/v1/completions", json=body, timeout=120).json()["usage"]
        # The last token is put out and not computed.
        return usage["total_tokens"] - 1, usage["prompt_tokens_details"]["cached_tokens"]

    def used_blocks(self) -> int:
        text = httpx.get(f"{self.url}/metrics").text
        found = re.search(r"^vllm:kv_cache_usage_perc{.*} (.*)$", text, re.MULTILINE)
        assert found is not None
        return round(float(found[1]) * (NUM_BLOCKS - 1))

    def clear(self) -> None:
        assert httpx.post(f"{self.url}/reset_prefix_cache", timeout=30).status_code == 200

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)


@pytest.fixture(scope="module")
def vllm(smollm2: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    server = Vllm(smollm2.path, tmp_path_factory.mktemp("vllm") / "log")
    yield server
    server.stop()


@pytest.fixture
def source(vllm: Vllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MetricsSource]:
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    vllm.clear()
    target = probe(vllm.url, None)
    assert target is not None
    source = MetricsSource(target, None, [partial(KvFeed, [vllm.kv_events])])
    source.start()
    until(source, lambda state: state.blocks.whole)
    yield source
    source.stop()


def until(source: MetricsSource, done: Callable[[SessionState], bool]) -> SessionState:
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        state = source.poll(time.monotonic_ns())
        if done(state):
            return state
        time.sleep(0.02)
    raise AssertionError(state.log.lines)


def test_each_request_stores_what_it_did_not_find(vllm: Vllm, source: MetricsSource) -> None:
    """With more prompts than the cache holds: blocks go, and some prompts come again."""
    stored = source.poll(0).blocks.stored
    prompts = [f"{n} {n} {n}: {PREFIX if n % 2 else PREFIX[::-1][:300]} {n}" for n in range(7)]
    for prompt in [*prompts, prompts[-1], *prompts[2:5], PREFIX + "a b c", PREFIX + "d e f"]:
        total, found = vllm.ask(prompt, max_tokens=8)
        stored += total // BLOCK - found // BLOCK
        state = until(source, lambda state, stored=stored: state.blocks.stored >= stored)
        blocks = state.blocks
        assert blocks.stored == stored
        assert blocks.num_blocks() == blocks.stored - blocks.removed <= NUM_BLOCKS - 1
    assert state.blocks.removed > 0 and state.blocks.strangers == 0
    until(source, lambda state: vllm.used_blocks() == 0)
    assert state.blocks.num_blocks() > 0, "cached without a request is not in the server's usage"
    assert state.foreign.gauge("kv_blocks") == NUM_BLOCKS


def test_the_tree_has_the_prefix_that_was_sent(vllm: Vllm, source: MetricsSource) -> None:
    stored = source.poll(0).blocks.stored
    for question in ("What is a bogie? " * 6, "Why are rails spaced? " * 6):
        total, found = vllm.ask(PREFIX + question)
        stored += total // BLOCK - found // BLOCK
    assert found // BLOCK >= 2
    state = until(source, lambda state: state.blocks.stored == stored)
    (prefix,) = shared_prefixes(state.blocks)
    assert (prefix.start, prefix.tokens, prefix.ways, prefix.first) == (0, found, 2, True)


def test_blocks_in_use_are_the_hashed_ones_and_the_one_that_fills(
    vllm: Vllm, source: MetricsSource
) -> None:
    body = {"model": "smollm2", "prompt": PREFIX, "max_tokens": 200, "ignore_eos": True}
    agreed = 0
    with httpx.stream(
        "POST", f"{vllm.url}/v1/completions", json=body | {"stream": True}, timeout=120
    ) as answer:
        for at, _ in enumerate(answer.iter_lines()):
            if at % 10:
                continue
            before, state, after = vllm.used_blocks(), source.poll(0), vllm.used_blocks()
            hashed = state.blocks.num_blocks()
            if before == after > 0:  # it runs, and did not begin or end meanwhile
                assert after - hashed in (0, 1, 2)
                agreed += after - hashed in (0, 1)
    assert agreed > 5


def test_what_is_thrown_away_and_what_is_recorded(vllm: Vllm, source: MetricsSource) -> None:
    vllm.ask(PREFIX)
    until(source, lambda state: state.blocks.num_blocks() > 0)
    assert source.keep().startswith("keeping")
    vllm.clear()
    vllm.ask(PREFIX + "and more")
    live = until(source, lambda state: state.blocks.removed > 0 < state.blocks.num_blocks())
    source.stop()
    assert source.session_file is not None
    with closing(SessionReader(source.session_file)) as reader:
        replayed = reader.state_at(reader.end_ns)
    assert replayed.blocks.freeze() == live.blocks.freeze()


def test_who_comes_late_is_told_all_of_it(vllm: Vllm, source: MetricsSource) -> None:
    vllm.ask(PREFIX)
    early = until(source, lambda state: state.blocks.num_blocks() > 0).blocks
    target = probe(vllm.url, None)
    assert target is not None
    other = MetricsSource(target, None, [partial(KvFeed, [vllm.kv_events])])
    other.start()
    try:
        late = until(other, lambda state: state.blocks.whole and state.blocks.num_blocks() > 0)
        assert (late.blocks.num_blocks(), late.blocks.copies) == (early.num_blocks(), early.copies)
    finally:
        other.stop()


def test_the_doctor_finds_all_that_a_vllm_tells(
    vllm: Vllm, capsys: pytest.CaptureFixture[str]
) -> None:
    vllm.ask(PREFIX)
    assert main(["doctor", vllm.url, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["engine"], report["model"]) == ("vLLM", "smollm2") and report["version"]
    assert {signal["status"] for signal in report["signals"]} == {"found"}, report["signals"]
