"""Whole decoders on the Triton backend, step by step, beside the same ones on the CPU's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from engine.batch import Batch, Packing
from engine.config import EngineConfig, SamplingParams, SchedulerConfig
from engine.core import EngineCore
from engine.cpu.backend import CpuBackend
from engine.kernels import splits
from engine.kernels.backend import TritonBackend
from engine.loading import Loaded
from engine.models.config import ModelConfig
from engine.models.folder import ModelFolder
from engine.models.progress import silent
from engine.models.weights import load_decoder
from engine.request import EngineRequest
from engine.runner import ModelRunner
from profiler.events import RequestPreempted, RequestScheduled, Step

BASE = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 1,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 100,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True},
    "mistral": {"architectures": ["MistralForCausalLM"], "sliding_window": 6},
    "qwen2": {"architectures": ["Qwen2ForCausalLM"]},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"]},
}
BLOCK_SIZE, NUM_PAGES = 8, 300
LONG = {"max_position_embeddings": 2048}
LARGE = {
    "num_hidden_layers": 2,
    "hidden_size": 256,
    "num_attention_heads": 14,
    "head_dim": 128,
    "intermediate_size": 333,
}

# One pass each: (query_lens, context_lens) of the same three sequences. Whole prompts, then chunks
# beside decoding in both orders, then decoding alone, then one sequence less.
PASSES = [
    ((3, 10, 2), (3, 10, 2)),
    ((1, 1, 9), (4, 11, 11)),
    ((4, 1, 1), (8, 12, 12)),
    ((1, 1, 1), (9, 13, 13)),
    ((1, 3), (10, 16)),
]
ROOM = (10, 16, 13)


def write_model(folder: Path, raw: dict[str, Any]) -> ModelFolder:
    """A model with random weights, in the layout of Hugging Face."""
    torch.manual_seed(0)
    (folder / "config.json").write_text(json.dumps(raw))
    config = ModelConfig.load(folder)
    q, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    hidden, inner = config.hidden_size, config.intermediate_size
    tensors = {
        "model.embed_tokens.weight": torch.randn(config.vocab_size, hidden),
        "model.norm.weight": torch.rand(hidden) + 0.5,
    }
    if not config.tie_embeddings:
        tensors["lm_head.weight"] = torch.randn(config.vocab_size, hidden) / hidden**0.5
    shapes = {
        "self_attn.q_proj": (q, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, q),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    for number in range(config.num_layers):
        prefix = f"model.layers.{number}."
        for name, (rows, columns) in shapes.items():
            tensors[f"{prefix}{name}.weight"] = torch.randn(rows, columns) / columns**0.5
            if config.attention_bias and name[-6:] in ("q_proj", "k_proj", "v_proj"):
                tensors[f"{prefix}{name}.bias"] = torch.randn(rows)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}{name}.weight"] = torch.rand(hidden) + 0.5
        for name in ("q_norm", "k_norm") if config.qk_norm else ():
            tensors[f"{prefix}self_attn.{name}.weight"] = torch.rand(config.head_dim) + 0.5
    save_file(tensors, folder / "model.safetensors")
    return ModelFolder.open(folder)


def logits_of(backend: Any, folder: ModelFolder, passes: list[Batch]) -> torch.Tensor:
    """The logits of each pass, in fp32 on the CPU; what one pass caches, the next one reads."""
    decoder, config = load_decoder(folder, backend), folder.config
    pools = [
        backend.allocate_pool(NUM_PAGES, config.num_kv_heads, BLOCK_SIZE, config.head_dim)
        for _ in range(config.num_layers)
    ]
    if isinstance(backend, TritonBackend):
        for pool in pools:
            pool.k.fill_(torch.nan)
            pool.v.fill_(torch.nan)
    return torch.cat([decoder.forward(batch, pools).float().cpu() for batch in passes])


def relative_error(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.double() - want.double()).norm() / want.double().norm())


@pytest.fixture
def passes(batch_of: Any) -> list[Batch]:
    """PASSES over one set of pages, so that a sequence finds what it cached."""
    return [batch_of(*lens, BLOCK_SIZE, 3, room=ROOM)[0] for lens in PASSES]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_decoder_gives_the_same_logits_as_on_the_cpu(
    family: str, tmp_path: Path, passes: list[Batch], to_device: Any, device: torch.device
) -> None:
    folder = write_model(tmp_path, BASE | FAMILIES[family])
    want = logits_of(CpuBackend(torch.float32, 1), folder, passes)
    backend = TritonBackend(device, torch.float32)
    got = logits_of(backend, folder, [to_device(batch, device) for batch in passes])
    assert relative_error(got, want) < 2e-5


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 3e-2)])
def test_a_decoder_with_large_heads_on_the_gpu(
    family: str, dtype: torch.dtype, tolerance: float, tmp_path: Path, batch_of: Any, to_device: Any
) -> None:
    """Against fp32 on the CPU, long contexts among the sequences, so that decode is split."""
    folder = write_model(tmp_path, BASE | LARGE | FAMILIES[family] | LONG)
    lens = [
        ((1500, 300, 65), (1500, 300, 65)),
        ((1, 1, 1), (1501, 301, 66)),
        ((1, 1, 99), (1502, 302, 165)),
    ]
    passes = [batch_of(*pair, BLOCK_SIZE, 3, room=[1502, 302, 165])[0] for pair in lens]
    want = logits_of(CpuBackend(torch.float32), folder, passes)
    device = torch.device("cuda")
    got = logits_of(TritonBackend(device, dtype), folder, [to_device(b, device) for b in passes])
    assert relative_error(got, want) < tolerance


def answers_of(
    monkeypatch: pytest.MonkeyPatch,
    folder: ModelFolder,
    backend: Any,
    prompts: list[list[int]],
    step_tokens: int = 9,
    max_tokens: int = 7,
    **options: Any,
) -> list[list[int]]:
    """Greedy tokens of the engine on this backend: chunked prompts, cached prefixes, preemption."""
    options = {"block_size": BLOCK_SIZE, "num_gpu_blocks_override": 5} | options
    config = EngineConfig(
        dtype="float32",
        device=backend.device.type,
        scheduler=SchedulerConfig(max_num_batched_tokens=step_tokens, max_num_seqs=4),
        **options,
    )
    monkeypatch.setattr("engine.runner.create_backend", lambda *_: backend)
    events: list[Any] = []
    core = EngineCore(
        config,
        Path("nowhere"),
        events.append,
        silent,
        load=lambda c, _, p: Loaded(folder, ModelRunner(c, folder, p)),
    )
    params = SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True)
    for number, prompt in enumerate(prompts, 1):
        core.add(EngineRequest(number, "", tuple(prompt), params))
    answers: list[list[int]] = [[] for _ in prompts]
    while core.has_work:
        for output in core.step():
            answers[output.request - 1] += output.token_ids
        core.check()
    assert any(isinstance(event, RequestPreempted) for event in events)
    assert any(e.cached_tokens for e in events if isinstance(e, RequestScheduled))
    hits = [event.graph == "hit" for event in events if isinstance(event, Step)]
    assert any(hits) == (backend.device.type == "cuda" and not config.enforce_eager)
    return answers


def test_the_engine_gives_the_same_tokens_on_both_backends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: torch.device
) -> None:
    folder = write_model(tmp_path, BASE | FAMILIES["qwen2"])
    prompts = [[*range(3, 18)], [*range(30, 45)], [*range(3, 12), 60], [61, 62]]
    want = answers_of(monkeypatch, folder, CpuBackend(torch.float32, 1), prompts)
    got = answers_of(monkeypatch, folder, TritonBackend(device, torch.float32), prompts)
    assert got == want
    if device.type == "cuda":  # elsewhere nothing is captured
        eager = TritonBackend(device, torch.float32)
        assert answers_of(monkeypatch, folder, eager, prompts, enforce_eager=True) == want


PACKED: dict[str, Any] = {"block_size": 16, "kv_cache_dtype": "int4", "num_gpu_blocks_override": 5}
PACKED |= {"step_tokens": 26, "max_tokens": 10}


@pytest.mark.parametrize("family", [pytest.param("qwen2", marks=pytest.mark.slow), "mistral"])
def test_the_engine_gives_the_same_tokens_of_packed_pages_on_both_backends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: torch.device, family: str
) -> None:
    """Also where a layer has a window, and its first page goes out of sight."""
    window = {"sliding_window": 20} if family == "mistral" else {}
    folder = write_model(tmp_path, BASE | FAMILIES[family] | {"head_dim": 32} | window)
    prompts = [[*range(3, 28)], [*range(40, 65)], [*range(3, 27), 60], [61, 62]]
    want = answers_of(monkeypatch, folder, CpuBackend(torch.float32, 1), prompts, **PACKED)
    backend = TritonBackend(device, torch.float32)
    assert answers_of(monkeypatch, folder, backend, prompts, **PACKED) == want
    if device.type == "cuda":
        backend = TritonBackend(device, torch.float32)
        eager = PACKED | {"enforce_eager": True}
        assert answers_of(monkeypatch, folder, backend, prompts, **eager) == want


def test_a_pass_is_planned_from_the_host_alone(
    batch_of: Any, to_device: Any, device: torch.device
) -> None:
    """Decode looks no further than the last single token, and splits what it looks at."""
    backend = TritonBackend(device, torch.float32)
    mixed, _ = batch_of([1, 1, 7, 30], [4000, 9, 7, 30], 16, 0)
    plan = backend.plan(to_device(mixed, device), 8, 2, 64)
    assert plan.decode_tables is not None
    assert [len(table) for table in plan.decode_tables] == [2, 3, 2]
    assert plan.num_splits == 16
    assert plan.tile_map is not None and set(plan.tile_map[:, 0].tolist()) == {2, 3}

    prefill, _ = batch_of([7], [7], 16, 0)
    assert backend.plan(to_device(prefill, device), 8, 2, 64).decode_tables is None
    decode, _ = batch_of([1], [100], 16, 0)
    plan = backend.plan(to_device(decode, device), 8, 2, 64)
    assert plan.tile_map is None and plan.num_splits == splits.MERGED_BY_ONE


def test_the_workspace_has_room_for_every_plan(
    batch_of: Any, to_device: Any, device: torch.device
) -> None:
    backend = TritonBackend(device, torch.float32)
    batch, _ = batch_of([2] * 99 + [1], [2] * 99 + [3000], 16, 0)
    pool = backend.allocate_pool(1, 4, 16, 128)
    workspace = backend._workspace(torch.empty(1, 28, 128), pool)
    assert backend._workspace(torch.empty(5, 28, 128), pool) is workspace
    num_splits = backend.plan(to_device(batch, device), 28, 4, 128).num_splits
    assert num_splits == 1 or 100 * 4 * num_splits <= len(workspace.counters)
    assert workspace.parts.numel() * 4 < 2**23
    # One backend may attend over packed pages too, in more programs, as a clock of formats does.
    one, _ = batch_of([1], [9000], 16, 0)
    packed = replace(to_device(one, device), packing=Packing(16, 600, None))
    assert 4 * backend.plan(packed, 28, 4, 128).num_splits <= len(workspace.counters)
    many, _ = batch_of([1] * 30, [9000] * 30, 16, 0)
    packed = replace(to_device(many, device), packing=Packing(16, 600, None))
    assert 120 * backend.plan(packed, 28, 4, 128).num_splits > splits.PROGRAMS_PER_SM * 132
    assert 120 * backend.plan(packed, 28, 4, 128).num_splits <= len(workspace.counters)
