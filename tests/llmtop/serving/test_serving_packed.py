"""A real server that packs its pages: the same text with and without a prefix hit, and with few
pages; what its page of metrics and its recording say of it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.config import EngineConfig, SchedulerConfig
from profiler.events import Step
from profiler.kv_held import kv_held
from profiler.session.reader import SessionReader

PAGE = 16
PROMPTS = [f"{number} bottles of beer on the wall, " * 3 for number in range(6)]


@pytest.fixture(scope="module")
def server(start_server):
    engine = EngineConfig(
        model="random:tiny",
        device="cpu",
        dtype="float32",  # else a token that is almost a tie turns with the size of its batch
        num_threads=1,
        block_size=PAGE,
        kv_cache_dtype="int8",
        num_gpu_blocks_override=40,
        scheduler=SchedulerConfig(max_num_seqs=4, max_num_batched_tokens=64),
    )
    return start_server(engine=engine).wait_until_ready()


Answer = tuple[str, list[float]]


def answer(server, prompt: str) -> Answer:
    """The text and each token's log-probability: the tiny model says one byte again and again, but
    how sure it is of it depends on all that it has read."""
    asked = {"max_tokens": 90, "temperature": 0, "ignore_eos": True, "logprobs": 0}
    response = server.client.post(
        "/v1/completions", json={"model": "random:tiny", "prompt": prompt, **asked}
    )
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    return choice["text"], choice["logprobs"]["token_logprobs"]


def same(one: Answer, other: Answer) -> bool:
    """But for the rounding of sums in batches of another shape."""
    return one[0] == other[0] and one[1] == pytest.approx(other[1], abs=1e-5)


def metrics(server) -> dict[tuple[str, str], float]:
    families = text_string_to_metric_families(server.client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    named = {(s.name, s.labels.get("form", s.labels.get("state", ""))): s.value for s in samples}
    formats = [s.labels["cache_dtype"] for s in samples if s.name == "vllm:cache_config_info"]
    assert formats == ["int8"]
    return named


def reached(server, name: str, least: float) -> dict[tuple[str, str], float]:
    """The page, which may be half a second old, once a counter has come that far."""
    deadline = time.monotonic() + 10
    while (found := metrics(server))[name, ""] < least and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_a_prefix_hit_and_a_full_cache_change_no_token(server):
    alone = {}
    for prompt in PROMPTS:
        alone[prompt] = answer(server, prompt)
        assert same(answer(server, prompt), alone[prompt])
    assert len({round(logprob, 4) for logprob in alone[PROMPTS[0]][1]}) > 30
    num_pages = len(PROMPTS[0]) // PAGE  # of a prompt, a byte being a token
    hit_tokens = len(PROMPTS) * num_pages * PAGE
    found = reached(server, "vllm:prefix_cache_hits_total", hit_tokens)
    assert found["vllm:prefix_cache_hits_total", ""] == hit_tokens, "the first time it was cold"
    with ThreadPoolExecutor(len(PROMPTS)) as pool:
        together = list(pool.map(lambda prompt: answer(server, prompt), 2 * PROMPTS))
    assert all(map(same, together, 2 * list(alone.values())))
    full = reached(server, "vllm:num_preemptions_total", 1)
    assert full["vllm:num_preemptions_total", ""] > 0
    assert full["llmtop_kv_pages_packed_total", ""] > 100


def test_the_recording_tells_what_was_packed(server):
    server.process.terminate()
    assert server.ended() == 0
    reader = SessionReader(server.session)
    try:
        session = reader.session
        packing = session.packing
        assert (packing.name, packing.dtype, packing.num_sinks) == ("int8", "float32", 1)
        assert session.page_bytes < packing.wide_page_bytes / 2
        state = reader.state_at(reader.end_ns)
        steps = [event for _, event in reader.events() if isinstance(event, Step)]
        assert state.totals.packed_pages == sum(step.packed_pages for step in steps) > 100
        assert 0 < max(step.pages_wide for step in steps) <= packing.num_wide_pages
        memory = state.memory.last
        packed_bytes = memory.kv_bytes - memory.kv_wide_bytes
        assert memory.kv_wide_bytes > 0 and packed_bytes % session.page_bytes == 0
        assert 0 < packed_bytes <= session.num_pages * session.page_bytes
        forms, pages = state.pages.forms, state.pages
        # All have ended: what is left is cached, packed or a sink.
        assert (pages.used, forms.hot) == (0, 0)
        assert forms.packed + forms.sinks == pages.cached > 0
        held = kv_held(session, pages)
        assert held.held_bytes == (
            pages.cached * session.page_bytes + forms.sinks * packing.wide_page_bytes
        )
    finally:
        reader.close()


@pytest.mark.slow
def test_the_default_model_packs_too(smollm2, start_server):
    engine = EngineConfig(
        model=str(smollm2.path), device="cpu", dtype="float32", kv_cache_dtype="int8", block_size=16
    )
    real = start_server(engine=engine, served_model_name="smol").wait_until_ready()
    fact = "Paris is a city that many people visit. "
    body = {"model": "smol", "prompt": 4 * fact + "The capital of France is", "max_tokens": 24}
    texts = []
    for _ in range(2):
        response = real.client.post("/v1/completions", json=body | {"temperature": 0}, timeout=300)
        texts.append(response.json()["choices"][0]["text"])
    assert texts[0] == texts[1] and texts[0].startswith(" Paris")
    assert reached(real, "vllm:prefix_cache_hits_total", 16)["vllm:prefix_cache_hits_total", ""] > 0
