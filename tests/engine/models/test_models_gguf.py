"""A GGUF file becomes the folder that its model came from, or one clear line."""

from __future__ import annotations

import json

import gguf
import numpy as np
import pytest
import torch

from engine.cpu.backend import CpuBackend
from engine.errors import ModelError
from engine.models.folder import ModelFolder
from engine.models.gguf_config import llama3_factors
from engine.models.gguf_convert import convert_gguf
from engine.models.gguf_file import GgufFile
from engine.models.progress import silent
from engine.models.registry import ModelRegistry
from engine.models.weights import load_decoder

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, VOCAB = 64, 96, 2, 4, 2, 40
HEAD_DIM = HIDDEN // HEADS
LETTERS = [chr(97 + i % 26) + ("" if i < 26 else chr(97 + i // 26)) for i in range(VOCAB - 1)]


def permuted(rows, num_heads):
    """llama.cpp's order: what stood in two halves of a head stands pair by pair."""
    heads = rows.reshape(num_heads, 2, HEAD_DIM // 2, *rows.shape[1:])
    return np.stack((heads[:, 0], heads[:, 1]), 2).reshape(rows.shape)


def make_tensors(bias=False, output_bias=False, qk_norm=False, tied=False):
    """fp32 values by llama.cpp's names, q and k rows in Hugging Face's order."""
    draw = np.random.default_rng(0)
    kv = KV_HEADS * HEAD_DIM
    shapes = {
        "attn_norm.weight": (HIDDEN,),
        "attn_q.weight": (HIDDEN, HIDDEN),
        "attn_k.weight": (kv, HIDDEN),
        "attn_v.weight": (kv, HIDDEN),
        "attn_output.weight": (HIDDEN, HIDDEN),
        "ffn_norm.weight": (HIDDEN,),
        "ffn_gate.weight": (INNER, HIDDEN),
        "ffn_up.weight": (INNER, HIDDEN),
        "ffn_down.weight": (HIDDEN, INNER),
    }
    if bias:
        shapes |= {"attn_q.bias": (HIDDEN,), "attn_k.bias": (kv,), "attn_v.bias": (kv,)}
    if output_bias:
        shapes["attn_output.bias"] = (HIDDEN,)
    if qk_norm:
        shapes |= {"attn_q_norm.weight": (HEAD_DIM,), "attn_k_norm.weight": (HEAD_DIM,)}
    named = {f"blk.{n}.{name}": shape for n in range(LAYERS) for name, shape in shapes.items()}
    named |= {"token_embd.weight": (VOCAB, HIDDEN), "output_norm.weight": (HIDDEN,)}
    if not tied:
        named["output.weight"] = (VOCAB, HIDDEN)
    return {
        name: (
            1 + draw.normal(0, 0.1, shape) if len(shape) == 1 else draw.normal(0, 0.2, shape)
        ).astype(np.float32)
        for name, shape in named.items()
    }


def write_gguf(path, tensors, arch="llama", kind=None, leave_out=(), **extra):
    """A whole model file; matrices are quantised to `kind` where their rows allow it."""
    writer = gguf.GGUFWriter(path, arch)
    settings = {
        "block_count": LAYERS,
        "context_length": 128,
        "embedding_length": HIDDEN,
        "feed_forward_length": INNER,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
    }
    for key, value in settings.items():
        if key not in leave_out:
            writer.add_uint32(f"{arch}.{key}", value)
    writer.add_float32(f"{arch}.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_float32(f"{arch}.rope.freq_base", 5000.0)
    for key, value in extra.items():
        name = f"{arch}.{key.replace('__', '.')}"
        (writer.add_string if isinstance(value, str) else writer.add_uint32)(name, value)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<end>", *LETTERS])
    writer.add_token_types([3] + [1] * len(LETTERS))
    writer.add_token_merges([f"{token[0]} {token[1]}" for token in LETTERS if len(token) == 2])
    writer.add_eos_token_id(0)
    for name, values in tensors.items():
        if arch == "llama" and (".attn_q." in name or ".attn_k." in name):
            values = permuted(values, HEADS if "attn_q" in name else KV_HEADS)
        if kind is not None and values.ndim == 2 and values.shape[1] % 32 == 0:
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def converted(path, tmp_path):
    folder = tmp_path / "converted"
    folder.mkdir()
    convert_gguf(path, folder, silent)
    return ModelFolder.open(folder)


def logits_of(folder, batch_of):
    backend = CpuBackend(torch.float32, 1)
    decoder = load_decoder(folder, backend)
    pools = [backend.allocate_pool(4, KV_HEADS, 8, HEAD_DIM) for _ in range(LAYERS)]
    return decoder.forward(batch_of([(list(range(3, 23)), 0, [1, 3, 0])], 8), pools)


@pytest.mark.parametrize(
    ("arch", "shape"),
    [
        ("llama", {}),
        ("llama", {"bias": True, "output_bias": True, "tied": True}),
        ("qwen2", {"bias": True}),
        ("qwen3", {"qk_norm": True, "tied": True}),
    ],
)
def test_converted_folder_is_the_model_that_transformers_reads(arch, shape, tmp_path, batch_of):
    """The folder must be whole by transformers' rules; rows must be back in their order."""
    transformers = pytest.importorskip("transformers")
    tensors = make_tensors(**shape)
    folder = converted(write_gguf(tmp_path / "m.gguf", tensors, arch), tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder.path, dtype=torch.float32)
    for ours, theirs in (("attn_q", "q_proj"), ("attn_k", "k_proj")):
        for part in ("weight", "bias") if shape.get("bias") else ("weight",):
            found = getattr(getattr(model.model.layers[1].self_attn, theirs), part)
            original = torch.from_numpy(tensors[f"blk.1.{ours}.{part}"])
            assert torch.equal(found, original.bfloat16().float())
    with torch.no_grad():
        expected = model(torch.arange(3, 23)[None]).logits[0]
    torch.testing.assert_close(logits_of(folder, batch_of), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16"])
def test_quantised_tensors_come_back_near(name, tmp_path):
    kind = gguf.GGMLQuantizationType[name]
    tensors = make_tensors()
    path = write_gguf(tmp_path / "m.gguf", tensors, "qwen2", kind)
    worst = {"Q4": 0.15, "Q5": 0.08, "Q8": 0.01, "F1": 1e-3, "BF": 5e-3}[name[:2]]
    for tensor in ("blk.0.ffn_down.weight", "token_embd.weight", "output_norm.weight"):
        assert np.abs(GgufFile(path).tensor(tensor) - tensors[tensor]).max() < worst


@pytest.mark.parametrize("name", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"])
def test_k_quants_are_read(name, tmp_path):
    """The gguf package writes none: blocks of zeros, whose scale and values are 0."""
    kind = gguf.GGMLQuantizationType[name]
    size = gguf.GGML_QUANT_SIZES[kind][1]
    writer = gguf.GGUFWriter(tmp_path / "k.gguf", "llama")
    writer.add_tensor("x", np.zeros((3, 2 * size), np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    values = GgufFile(tmp_path / "k.gguf").tensor("x")
    assert values.shape == (3, 512)
    assert not values.any()


def test_settings_reach_the_config(tmp_path):
    path = write_gguf(
        tmp_path / "m.gguf",
        make_tensors(),
        attention__sliding_window=32,
        rope__scaling__type="none",
    )
    config = converted(path, tmp_path).config
    assert config.architecture == "mistral"
    assert config.sliding_window == 32
    assert (config.rope_theta, config.rms_eps, config.max_position) == (5000.0, 1e-5, 128)
    assert config.eos_token_ids == (0,)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama3_scaling_is_recognised_by_its_factors(factor, tmp_path):
    factors = np.array(llama3_factors(5000.0, HEAD_DIM, factor), dtype=np.float32)
    tensors = make_tensors() | {"rope_freqs.weight": factors}
    scaling = converted(write_gguf(tmp_path / "m.gguf", tensors), tmp_path).config.rope_scaling
    assert scaling is not None
    assert (scaling.kind, scaling.factor, scaling.low, scaling.high) == ("llama3", factor, 1, 4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arch": "gemma3"}, "architecture 'gemma3'"),
        ({"expert_count": 8}, "experts"),
        ({"rope__scaling__type": "yarn"}, "rope scaling 'yarn'"),
        ({"rope__dimension_count": 4}, "part of the head"),
        ({"leave_out": ("block_count",)}, "lacks llama.block_count"),
    ],
)
def test_what_we_do_not_run_is_refused_in_one_line(change, words, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", make_tensors(), **change)
    with pytest.raises(ModelError) as caught:
        converted(path, tmp_path)
    assert words in caught.value.message
    assert caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint


def test_other_rotary_factors_are_refused(tmp_path):
    tensors = make_tensors() | {"rope_freqs.weight": np.full(HEAD_DIM // 2, 2.0, np.float32)}
    with pytest.raises(ModelError, match="not those of Llama 3"):
        converted(write_gguf(tmp_path / "m.gguf", tensors), tmp_path)


def test_a_tensor_of_another_kind_of_model_is_refused(tmp_path):
    tensors = make_tensors() | {"blk.0.ffn_gate_exps.weight": np.ones((4, 4), np.float32)}
    with pytest.raises(ModelError, match="ffn_gate_exps"):
        converted(write_gguf(tmp_path / "m.gguf", tensors), tmp_path)


def test_a_file_cut_off_anywhere_is_one_line(tmp_path):
    whole = write_gguf(tmp_path / "m.gguf", make_tensors()).read_bytes()
    registry = ModelRegistry(tmp_path / "cache")
    cut = tmp_path / "cut.gguf"
    for length in (0, 3, 4, 9, 30, 200, 900, len(whole) // 2, len(whole) - 40):
        cut.write_bytes(whole[:length])
        with pytest.raises(ModelError) as caught:
            registry.resolve(str(cut))
        assert "cut.gguf" in caught.value.message
        assert "\n" not in caught.value.message
    assert [p.name for p in (tmp_path / "cache" / "models").iterdir() if p.is_dir()] == []


def test_foreign_bytes_are_one_line(tmp_path):
    for name, data in (("zip", b"PK\3\4" + bytes(100)), ("huge", b"GGUF\3\0\0\0" + b"\xff" * 40)):
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(data)
        with pytest.raises(ModelError, match=rf"{name}\.gguf"):
            GgufFile(path)


def test_a_file_is_converted_once_and_again_when_it_changed(tmp_path):
    path = write_gguf(tmp_path / "my model.gguf", make_tensors())
    registry = ModelRegistry(tmp_path / "cache")
    phases = []
    first = registry.resolve(str(path), lambda phase, *_: phases.append(phase))
    assert set(phases) == {"convert"}
    assert first.name == "my model"
    phases.clear()
    assert registry.resolve(str(path), lambda phase, *_: phases.append(phase)) == first
    assert phases == []
    write_gguf(path, make_tensors(tied=True))
    assert registry.resolve(str(path)).path != first.path
    assert json.loads((first.path / "config.json").read_text())["vocab_size"] == VOCAB
