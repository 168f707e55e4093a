"""What the stream tells of packed pages is what the engine's books say, after every step."""

from __future__ import annotations

import random

import msgspec
import pytest

from engine.kv.formats import KV_FORMATS
from engine.kv.packed_plan import packed_plan
from engine.kv.packing_facts import packing_facts
from profiler.events import PageKeyframe, SessionStart, Step
from profiler.kv_held import kv_held
from profiler.state import SessionState


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("sinks", [0, 1])
@pytest.mark.parametrize("ahead", [False, True])
def test_forms_follow_the_engine_and_keyframes_find_nothing_to_mend(
    core_bench, prefix, sinks, ahead
):
    bench = core_bench(
        num_pages=16, prefix=prefix, wide_seqs=3, sinks=sinks, async_scheduling=ahead
    )
    rng, state, seen, packed = random.Random(5), SessionState(), 0, 0
    state.apply(bench.core.session_start())
    kv = bench.core._kv
    for number in range(1, 30):
        prompt = [*range(3, 3 + 4 * rng.randrange(4)), *rng.choices(range(50, 90), k=5)]
        bench.add(number, prompt, max_tokens=rng.randrange(1, 45), ignore_eos=True)
    while bench.core.has_work:
        bench.step()
        for event in bench.events[seen:]:
            state.apply(event)
            if isinstance(event, Step):
                packed += event.packed_pages
        seen = len(bench.events)
        assert kv.num_wide_used == state.pages.forms.wide == bench.of(Step)[-1].pages_wide
        told, version = PageKeyframe(1, kv.pool.spans(), kv.forms()), state.pages.version
        state.pages.keyframe(told)
        assert state.pages.version == version
        blank = SessionState()
        blank.pages.resize(16)
        blank.pages.keyframe(told)
        assert blank.pages.forms.wide == kv.num_wide_used
    assert state.requests.num_preemptions and packed > 29
    runs = [run for event in bench.events for run in getattr(event, "runs", ())]
    assert sum(run.count for run in runs if run.op == "pack") == packed
    assert any(run.op == "keep" for run in runs) == bool(sinks)


def test_a_session_tells_its_packing(core_bench):
    start = core_bench(wide_seqs=2).core.session_start()
    packing = start.packing
    assert (packing.name, packing.dtype, packing.num_sinks) == ("int4", "float32", 1)
    assert packing.layers == (packing.layers[0],)
    assert packing.layers[0].key == packing.layers[0].value == "int4"
    decoded = msgspec.json.decode(msgspec.json.encode(start), type=SessionStart)
    assert decoded.packing == packing
    assert start.max_num_seqs == 2, "there are wide pages for so many"
    unpacked = core_bench().core.session_start()
    assert (unpacked.packing, unpacked.max_num_seqs) == (None, 64)


def test_facts_of_layers_that_differ():
    formats = [KV_FORMATS["auto"], KV_FORMATS["k8v4"], KV_FORMATS["fp8"]]
    plan = packed_plan(formats, 2, 64, 64, 2, 1, 64)
    facts = packing_facts(plan, 9, "bfloat16")
    assert [(layer.key, layer.value) for layer in facts.layers] == [
        ("bfloat16", "bfloat16"),
        ("int8", "int4"),
        ("fp8", "fp8"),
    ]
    assert [(layer.key_bits, layer.value_bits) for layer in facts.layers] == [
        (16, 16),
        (8, 4),
        (8, 8),
    ]
    assert facts.name == "mixed" and facts.num_wide_pages == 9
    assert facts.page_elements == 2 * 64 * 64 * 2 * 3
    assert facts.wide_page_bytes == 2 * facts.page_elements


def test_held_bytes_count_every_page_and_wide_ones_twice(core_bench):
    bench = core_bench(wide_seqs=2)
    start = msgspec.structs.replace(bench.core.session_start(), page_bytes=100)
    state = SessionState()
    state.apply(start)
    assert kv_held(start, state.pages) is None
    bench.add(1, range(3, 16), max_tokens=2, ignore_eos=True)
    bench.step()
    for event in bench.events:
        state.apply(event)
    # 13 tokens in four pages of 4: a sink, two that are packed, one that is being written.
    held, wide_bytes = kv_held(start, state.pages), start.packing.wide_page_bytes
    assert (state.pages.held_pages, state.pages.forms.packed, state.pages.forms.wide) == (4, 2, 2)
    assert held.held_bytes == 4 * 100 + 2 * wide_bytes
    assert held.unpacked_bytes == 4 * wide_bytes
    assert held.bits == pytest.approx(8 * held.held_bytes / (4 * start.packing.page_elements))
    assert held.saved_bytes == 2 * wide_bytes - 400
