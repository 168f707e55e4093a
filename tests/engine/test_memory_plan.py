"""Pages by memory, and refusals that carry numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest
import torch

from engine import devices, memory_plan
from engine.config import EngineConfig, SchedulerConfig
from engine.cpu.backend import CpuBackend
from engine.errors import DoesNotFitError, EngineError, InvalidRequestError
from engine.kv.allocate import allocate_pools
from engine.kv.formats import KV_FORMATS
from engine.loading import load_model
from engine.memory_plan import MemoryPlanner
from engine.models.config import ModelConfig
from engine.models.memory import MemoryEstimator
from engine.models.progress import silent

SHAPE = ModelConfig("llama", 4, 64, 128, 4, 2, 16, 1000, 2048)
PAGE_BYTES = 2 * 4 * 2 * 16 * 4 * 16  # K and V, layers, heads, channels, fp32, tokens
CPU = torch.device("cpu")


def planner(**settings) -> MemoryPlanner:
    return MemoryPlanner(EngineConfig(**settings), SHAPE, torch.float32, CPU)


@pytest.fixture
def available(monkeypatch):
    """Sets how much memory there is."""

    def set_bytes(count: int) -> None:
        monkeypatch.setattr(memory_plan, "cpu_memory_available", lambda: count)

    return set_bytes


def test_pages_take_a_share_of_what_the_weights_leave(available):
    plan = planner()
    available(plan.weights_bytes + 1000 * PAGE_BYTES)
    assert plan.before_loading() == (400, PAGE_BYTES, 2048, 0)
    available(1000 * PAGE_BYTES)
    assert plan.after_loading(0) == (400, PAGE_BYTES, 2048, 0)


def test_there_are_no_more_pages_than_requests_can_use(available):
    available(1 << 40)
    scheduler = SchedulerConfig(max_num_seqs=4)
    assert planner(scheduler=scheduler).before_loading().num_pages == 2 * 4 * 128
    assert planner().before_loading().num_pages * PAGE_BYTES <= 4 << 30


def test_a_context_nobody_asked_for_shrinks_to_what_fits(available):
    plan = planner()
    available(plan.weights_bytes + 100 * PAGE_BYTES)
    assert plan.before_loading() == (40, PAGE_BYTES, 640, 0)


def test_a_context_asked_for_is_refused_with_numbers(available):
    plan = planner(max_model_len=1000)
    available(plan.weights_bytes + 100 * PAGE_BYTES)
    with pytest.raises(DoesNotFitError, match=r"1000 tokens needs .* GiB") as error:
        plan.before_loading()
    assert "--max-model-len 640" in error.value.hint
    with pytest.raises(InvalidRequestError, match="2048"):
        planner(max_model_len=4096).before_loading()


def test_weights_that_do_not_fit_are_refused(available):
    available(planner().weights_bytes - 1)
    with pytest.raises(DoesNotFitError, match="GiB"):
        planner().before_loading()


def test_what_is_asked_for_is_given_or_refused(available):
    available(planner().weights_bytes + 100 * PAGE_BYTES)
    assert planner(num_gpu_blocks_override=7).before_loading() == (7, PAGE_BYTES, 112, 0)
    assert planner(kv_cache_memory_bytes=9 * PAGE_BYTES).before_loading().num_pages == 9
    with pytest.raises(DoesNotFitError, match="asked for"):
        planner(num_gpu_blocks_override=101).before_loading()


def test_memory_is_the_systems_or_the_control_groups(tmp_path, monkeypatch):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemAvailable:       50 kB\n")
    limit, usage = tmp_path / "max", tmp_path / "current"
    monkeypatch.setattr(devices, "CGROUP_FILES", ((str(limit), str(usage)),))
    assert devices.cpu_memory_available(meminfo) == 50 * 1024
    limit.write_text("max\n")
    usage.write_text("5\n")
    assert devices.cpu_memory_available(meminfo) == 50 * 1024
    limit.write_text("1005\n")
    assert devices.cpu_memory_available(meminfo) == 1000


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused():
    assert devices.choose_device(EngineConfig()) == CPU
    with pytest.raises(EngineError, match="CUDA"):
        devices.choose_device(msgspec.structs.replace(EngineConfig(), device="cuda"))


def test_a_gpus_share_is_our_own_whatever_others_hold(monkeypatch):
    free, total, ours = 5000 * PAGE_BYTES, 10_000 * PAGE_BYTES, 100 * PAGE_BYTES
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, total))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: ours)

    def num_pages(share: float) -> int:
        config = EngineConfig(gpu_memory_utilization=share)
        plan = MemoryPlanner(config, SHAPE, torch.float32, torch.device("cuda"))
        return plan.after_loading(0).num_pages

    assert num_pages(0.4) == 4000 - 100
    assert num_pages(0.9) == 5000


QWEN = ModelConfig("qwen2", 28, 3584, 18944, 28, 4, 128, 152064, 32768)
GIB = 1 << 30


def packed(name: str, kv_bytes: int = 8 * GIB, num_seqs: int = 16, **scheduler) -> MemoryPlanner:
    config = EngineConfig(
        kv_cache_dtype=name,
        kv_cache_memory_bytes=kv_bytes,
        scheduler=SchedulerConfig(max_num_seqs=num_seqs, **scheduler),
    )
    return MemoryPlanner(config, QWEN, torch.bfloat16, CPU)


@pytest.mark.parametrize(
    ("name", "ratio"), [("int8", 1.9), ("fp8", 1.9), ("k8v4", 2.5), ("int4", 3.6), ("int2", 5.8)]
)
def test_packed_pages_hold_as_many_more_tokens_as_they_are_smaller(available, name, ratio):
    available(100 * GIB)
    plain, plan = packed("auto").before_loading(), packed(name)
    pages = plan.before_loading()
    wide_bytes = pages.num_wide_pages * plan.packed.wide_page_bytes
    assert pages.num_wide_pages == 16 * 3 + 2048 // 64
    assert pages.num_pages * pages.page_bytes + wide_bytes <= 8 * GIB
    # Of what wide pages leave, each packed page takes its part and no more.
    share = (8 * GIB - wide_bytes) / (8 * GIB)
    assert 64 * pages.num_pages > ratio * share * 16 * plain.num_pages


def test_wide_pages_take_half_at_most_and_then_fewer_requests_run(available):
    available(100 * GIB)
    plan = packed("int4", 1 * GIB, num_seqs=256)
    pages = plan.before_loading()
    assert pages.num_wide_pages * plan.packed.wide_page_bytes <= GIB // 2
    assert 1 <= plan.packed.num_seqs_with(pages.num_wide_pages) < 256
    with pytest.raises(DoesNotFitError, match=r"pages that are being written need .* 64.0 MiB"):
        packed("int4", 64 << 20).before_loading()


def test_a_step_ahead_and_a_whole_prompt_take_more_wide_pages():
    usual = packed("int4").packed
    assert packed("int4", async_scheduling=True).packed.num_step_pages == 2 * usual.num_step_pages
    whole = packed("int4", enable_chunked_prefill=False).packed
    assert whole.num_step_pages == 32768 // 64


def test_heads_that_cannot_be_packed_are_refused():
    with pytest.raises(EngineError, match="16 channels cannot be packed 2 to a byte") as error:
        planner(kv_cache_dtype="int4")
    assert "multiple of 32" in error.value.hint


def test_too_little_memory_for_pages_that_are_written_is_refused_with_numbers(available):
    available(1 << 40)
    shape = dataclasses.replace(SHAPE, head_dim=64)
    config = EngineConfig(kv_cache_dtype="int4", kv_cache_memory_bytes=1 << 20)
    plan = MemoryPlanner(config, shape, torch.float32, CPU)
    with pytest.raises(DoesNotFitError, match=r"pages that are being written need .* 1\.0 MiB"):
        plan.before_loading()


@pytest.mark.parametrize("name", [name for name in KV_FORMATS if name != "auto"])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_planned_bytes_are_those_of_the_tensors(available, name, head_dim):
    available(1 << 40)
    shape = dataclasses.replace(SHAPE, head_dim=head_dim)
    config = EngineConfig(
        kv_cache_dtype=name,
        kv_cache_memory_bytes=64 << 20,
        scheduler=SchedulerConfig(max_num_seqs=4, max_num_batched_tokens=256),
    )
    planner = MemoryPlanner(config, shape, torch.float32, CPU)
    plan, packed = planner.before_loading(), planner.packed
    pools = allocate_pools(
        CpuBackend(torch.float32, 1), shape, 64, packed, plan.num_wide_pages, plan.num_pages
    )
    allocated = sum(pool.memory.nbytes + pool.packed.memory.nbytes for pool in pools)
    planned = plan.num_pages * plan.page_bytes + plan.num_wide_pages * packed.wide_page_bytes
    assert allocated == planned
    assert 0 <= (64 << 20) - allocated <= plan.page_bytes
    estimator = MemoryEstimator(shape, 4, 64, packed)
    assert estimator.page_bytes * plan.num_pages == sum(p.packed.memory.nbytes for p in pools)
    unpacked = MemoryEstimator(shape, 4, 64).page_bytes
    assert sum(half.nbytes for pool in pools for half in pool[:2]) == plan.num_wide_pages * unpacked


def test_pages_turned_back_take_what_one_layer_computed():
    """65 tokens lie in two pages of 64."""
    plan = packed("int4").packed
    assert plan is not None
    assert plan.turned_back_bytes(65) == 128 * 2 * 4 * 128 * 2


def test_a_gpu_keeps_one_page_of_a_request_unpacked_at_most():
    config = EngineConfig(kv_cache_dtype="int4", kv_sink_pages=2)
    MemoryPlanner(config, QWEN, torch.bfloat16, CPU)
    with pytest.raises(EngineError, match="1 page unpacked at most, not 2"):
        MemoryPlanner(config, QWEN, torch.bfloat16, torch.device("cuda"))


@pytest.mark.parametrize("settings", [{"max_num_batched_tokens": 10**12}, {"max_num_seqs": 10**14}])
def test_memory_that_runs_out_at_the_start_names_what_asks_for_it(
    tmp_path: Path, settings: dict[str, int]
) -> None:
    config = EngineConfig("random:tiny", device="cpu", scheduler=SchedulerConfig(**settings))
    with pytest.raises(DoesNotFitError, match="memory ran out") as raised:
        load_model(config, tmp_path, silent)
    assert "--max-num-batched-tokens, --max-num-seqs" in raised.value.hint


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError("Unable to allocate 8 EiB"), True),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_what_running_out_of_memory_looks_like(error: Exception, is_so: bool) -> None:
    assert devices.is_out_of_memory(error) == is_so
