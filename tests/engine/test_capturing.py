"""Windows of kernels: which steps they hold, and that the profiler sees our own loops."""

from __future__ import annotations

import pytest

from engine.config import SamplingParams
from engine.errors import InvalidRequestError
from engine.kernel_parts import part_of
from engine.kernel_profile import MAX_ROWS, OTHERS, shortened
from engine.llm import LLM
from profiler.events import MAX_CAPTURED_STEPS, KernelRow, KernelWindow, Log, Step


@pytest.mark.parametrize("ahead", [False, True])
def test_a_window_holds_the_steps_that_were_asked_for(core_bench, ahead):
    bench = core_bench(async_scheduling=ahead)
    bench.add(1, range(6), max_tokens=12)
    bench.step()
    bench.core.capture(4)
    bench.run()
    (window,) = bench.of(KernelWindow)
    # Ahead, the second step was launched before anybody asked.
    assert (window.first_step, window.num_steps) == (3 if ahead else 2, 4)
    assert window.kernels == (KernelRow("launch", 4, 7),)
    assert window.begin_ns < window.t_ns
    assert window.cost_ns > 0


def test_a_window_ends_when_the_work_does(core_bench):
    bench = core_bench()
    bench.core.capture(100)
    bench.add(1, range(6), max_tokens=5)
    bench.run()
    (window,) = bench.of(KernelWindow)
    assert (window.first_step, window.num_steps) == (1, len(bench.of(Step)))


def test_one_window_at_a_time_and_none_without_bounds(core_bench):
    bench = core_bench()
    for num_steps in (0, MAX_CAPTURED_STEPS + 1):
        with pytest.raises(InvalidRequestError, match="from 1 to"):
            bench.core.capture(num_steps)
    bench.core.capture(1)
    with pytest.raises(InvalidRequestError, match="already"):
        bench.core.capture(1)
    bench.add(1, range(6), max_tokens=3)
    bench.run()
    bench.core.capture(2)
    bench.add(2, range(6), max_tokens=3)
    bench.run()
    assert [window.num_steps for window in bench.of(KernelWindow)] == [1, 2]


def test_a_rehearsal_is_no_window_and_what_fails_in_it_is_told(core_bench, monkeypatch):
    bench, told = core_bench(), []
    capturing = bench.core._capturing
    capturing.rehearse(lambda *progress: told.append(progress[0]))
    assert told == ["profiler", "profiler"] and not capturing.is_busy
    bench.add(1, range(6), max_tokens=3)
    bench.run()
    assert not bench.of(KernelWindow)

    def fail():
        raise RuntimeError("no profiler here")

    monkeypatch.setattr(bench.runner, "start_profile", fail)
    capturing.rehearse(lambda *progress: None)
    assert [log.text for log in bench.of(Log)] == [
        "kernels cannot be captured here: no profiler here"
    ]


@pytest.mark.parametrize("name", ["start_profile", "stop_profile"])
def test_a_profiler_that_fails_is_told_of_and_the_work_goes_on(core_bench, monkeypatch, name):
    bench = core_bench()

    def fail():
        raise RuntimeError("another profiler is at work\nhere is how")

    monkeypatch.setattr(bench.runner, name, fail)
    bench.core.capture(1)
    bench.add(1, range(6), max_tokens=3)
    bench.run()
    assert bench.reasons[1] == "length"
    assert not bench.of(KernelWindow)
    texts = [log.text for log in bench.of(Log)]
    assert texts == ["kernels cannot be captured here: another profiler is at work"]
    monkeypatch.undo()
    bench.core.capture(1)  # the next try is a new one


def test_what_is_beyond_the_table_is_one_row():
    rows = [KernelRow(f"k{n}", 2, n) for n in range(1, MAX_ROWS + 4)]
    kept = shortened(rows)
    assert [row.time_ns for row in kept[:-1]] == list(range(MAX_ROWS + 3, 3, -1))
    assert kept[-1] == KernelRow(OTHERS, 6, 6)
    assert shortened(rows[:2]) == (rows[1], rows[0])


def test_a_part_s_time_beyond_the_table_stays_the_part_s():
    rows = [KernelRow(f"k{n}", 2, 9) for n in range(MAX_ROWS)]
    few = [KernelRow("g1", 1, 3, "linear"), KernelRow("g2", 1, 2, "linear"), KernelRow("c", 1, 1)]
    assert shortened([*rows, *few])[MAX_ROWS:] == (
        KernelRow(OTHERS, 1, 1),
        KernelRow(OTHERS, 2, 5, "linear"),
    )


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("_few_rows_kernel", "linear"),
        ("nvjet_tst_128x64_64x9_2x1_v_bz_TNT", "linear"),
        ("void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu>(Params)", "linear"),
        ("void cublasLt::splitKreduce_kernel<32, 16, int>", "linear"),
        ("mkldnn::_linear_pointwise", "linear"),
        ("aten::addmm", "linear"),
        ("_decode_kernel", "attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16", "attention"),
        ("attend", "attention"),
        ("whole_row_kernel", ""),
        ("_add_rms_norm_kernel", ""),
        ("aten::copy_", ""),
    ],
)
def test_parts_are_told_by_their_names(name, part):
    assert part_of(name) == part


def test_our_loops_and_torchs_operators_are_seen_on_a_cpu():
    events = []
    llm = LLM("random:tiny", emit=events.append, device="cpu", num_threads=1, max_model_len=256)
    llm._engine._core.capture(5)
    llm.generate([list(range(3, 30))], [SamplingParams(max_tokens=12, ignore_eos=True)])
    (window,) = [event for event in events if isinstance(event, KernelWindow)]
    steps = [event for event in events if isinstance(event, Step)][:5]
    calls = {row.name: row.calls for row in window.kernels}
    num_layers = llm._engine._core.folder.config.num_layers
    assert calls["attend"] == 5 * num_layers
    assert any(name.startswith("aten::") for name in calls)
    assert {row.part for row in window.kernels} == {"linear", "attention", ""}
    # The profiler's start is no part of the first step.
    step_ns = sum(step.end_ns - step.t_ns for step in steps)
    assert 0 < sum(row.time_ns for row in window.kernels) <= step_ns < window.t_ns - window.begin_ns
    assert list(window.kernels) == sorted(window.kernels, key=lambda row: -row.time_ns)


@pytest.mark.gpu
def test_every_kernel_of_a_gpu_is_counted():
    events = []
    llm = LLM("random:tiny", emit=events.append, device="cuda", max_model_len=256)
    prompt, params = list(range(3, 30)), SamplingParams(max_tokens=12, ignore_eos=True)
    llm.generate([prompt], [params])
    llm._engine._core.capture(5)
    llm.generate([prompt], [params])
    (window,) = [event for event in events if isinstance(event, KernelWindow)]
    calls = {row.name: row.calls for row in window.kernels}
    num_layers = llm._engine._core.folder.config.num_layers
    # A short prompt's graph runs the decode kernel too, over no rows.
    assert calls["_decode_kernel"] == 5 * num_layers
    assert {row.part for row in window.kernels} == {"linear", "attention", ""}
    assert list(window.kernels) == sorted(window.kernels, key=lambda row: -row.time_ns)
    assert 0 < sum(row.time_ns for row in window.kernels) < window.t_ns - window.begin_ns
