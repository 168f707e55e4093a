"""The dashboard of a foreign server: what its page tells, and words where it tells nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from llmtop.app import LlmtopApp
from llmtop.viewing import Viewing
from profiler.events import AnyEvent, Buckets, GpuAbsent, GpuSample, MetricsSample
from profiler.foreign.snapshot import foreign_line, foreign_snapshot
from profiler.session.reader import SessionReader
from profiler.state import SessionState

S = 1_000_000_000
EDGES = (0.1, 0.2, 0.4)


def reading(second: int, engine: str = "vLLM", **gauges: float) -> MetricsSample:
    """A hundred tokens and two first tokens a second: one within 200 ms, one beyond the edges."""
    counters = {"generation_tokens": 100.0 * second, "finished": 3.0}
    ttft = Buckets(EDGES, (0.0, second, second), 2.0 * second, 1.0 * second)
    histograms = {"ttft": ttft, "queue": Buckets(EDGES, (9, 9, 9), 9, 0.1)}
    return MetricsSample(second * S, engine, "qwen", gauges, counters, histograms, 1)


@pytest.fixture
def state() -> SessionState:
    now = time.monotonic_ns() // S
    state = SessionState()
    for seq, second in enumerate(range(now - 9, now + 1), 1):
        sample = reading(second, running=7, kv_usage=0.43, kv_tokens=141_994)
        state.apply(sample, seq)
    return state


async def test_what_the_page_tells_and_what_it_does_not(
    state: SessionState, source_of: Any, text_of: Callable[[Any], str]
) -> None:
    app = LlmtopApp(source_of(state))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.frame()
        await pilot.pause()
        text = text_of(app)
    assert "vLLM qwen" in text
    assert "generated 100 tok/s" in text
    assert "running 7" in text and "waiting --" in text, "not told is not zero"
    assert "43%  of 141 994 tokens" in text
    assert "not exposed by vLLM" in text
    (ttft,) = [line for line in text.splitlines() if "ttft" in line]
    assert "~200" in ttft and ttft.count(">400") == 2
    (queue,) = [line for line in text.splitlines() if "queue" in line]
    assert "no request within 60 s" in queue


async def test_ollama_says_what_it_has_and_that_it_has_no_more(
    source_of: Any, text_of: Callable[[Any], str]
) -> None:
    state = SessionState()
    gauges = {"models_loaded": 1.0, "vram_bytes": 2.0**32, "model_bytes": 5.0 * 2**30}
    state.apply(MetricsSample(time.monotonic_ns(), "Ollama", "mistral", gauges, {}, {}))
    app = LlmtopApp(source_of(state))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        text = text_of(app)
    assert "models loaded 1" in text and "in VRAM 4.0 GiB of 5.0 GiB" in text
    assert "running --" in text and text.count("llmtop proxy measures each request") == 8


async def test_the_devices_of_an_exporter_are_on_the_gpu_tab(
    state: SessionState, source_of: Any, text_of: Callable[[Any], str]
) -> None:
    app = LlmtopApp(source_of(state))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("4")
        await pilot.pause()
        assert "--gpu-metrics" in text_of(app)
        state.apply(GpuAbsent(state.t_ns, "no connection"))
        app.frame()
        await pilot.pause()
        assert "no device: no connection" in text_of(app)
        sample = GpuSample(state.t_ns, 0, "H100", 10 << 30, 80 << 30, util_pct=71, source="DCGM")
        state.apply(sample)
        app.frame()
        await pilot.pause()
        text = text_of(app)
    assert "DCGM" in text and "10.0 GiB of 80.0 GiB" in text and "71 %" in text


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("2", "llmtop proxy --upstream"),
        ("3", "how full the KV cache is"),
        ("5", "engine steps"),
        ("7", "request by request"),
    ],
)
async def test_other_tabs_say_why_they_are_empty(
    state: SessionState, source_of: Any, text_of: Callable[[Any], str], key: str, words: str
) -> None:
    app = LlmtopApp(source_of(state))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press(key)
        await pilot.pause()
        text = " ".join(text_of(app).split())
        assert words in text.replace("│ │ ", "")
        await pilot.press("1")
        await pilot.pause()
        assert "vLLM qwen" in text_of(app)


@pytest.mark.parametrize(
    "size", [(60, 16), (80, 24), pytest.param((200, 60), marks=pytest.mark.slow)]
)
async def test_every_key_leaves_it_running(
    state: SessionState, source_of: Any, pressable: list[str], size: tuple[int, int]
) -> None:
    app = LlmtopApp(source_of(state), viewing=Viewing(ascii=True))
    async with app.run_test(size=size) as pilot:
        for key in pressable:
            await pilot.press(key, "escape")
        assert app.is_running


def test_scripts_get_only_what_is_told(state: SessionState) -> None:
    found = foreign_snapshot(state, state.foreign)
    assert found.gauges == {"running": 7, "kv_usage": 0.43, "kv_tokens": 141_994}
    assert found.per_s["generation_tokens"] == pytest.approx(100)
    assert set(found.latency_ms) == {"ttft"}
    assert found.latency_ms["ttft"].p95.high is None
    assert found.wall_ns is not None
    line = foreign_line(state.foreign)
    assert "running 7" in line and "waiting" not in line and "100.0 tok/s" in line


def test_a_recorded_foreign_session_is_the_live_one(record: Any, tmp_path: Any) -> None:
    events: list[AnyEvent] = [reading(second, running=second) for second in range(100, 130)]
    live = SessionState()
    for seq, event in enumerate(events, 1):
        live.apply(event, seq)
    reader = SessionReader(record(tmp_path / "foreign.db", events))
    replayed = reader.state_at(reader.end_ns)
    reader.close()
    assert list(replayed.foreign.samples) == list(live.foreign.samples)
    assert replayed.foreign.spread("ttft") == live.foreign.spread("ttft")
