"""config.json read as transformers reads it, and refused in one line where we cannot run it."""

from __future__ import annotations

import json

import pytest

from engine.errors import ModelError
from engine.models.config import ModelConfig, RopeScaling, parse_config

WHOLE = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
}


def parse(**changes):
    return parse_config(WHOLE | changes, "config.json")


def test_what_is_left_out_has_transformers_defaults():
    config = parse()
    assert (config.num_kv_heads, config.head_dim, config.rope_theta) == (4, 16, 10_000.0)
    assert not config.tie_embeddings
    assert config.sliding_window is None


def test_families_differ_as_their_papers_do():
    qwen2 = parse(architectures=["Qwen2ForCausalLM"])
    assert (qwen2.attention_bias, qwen2.output_bias, qwen2.qk_norm) == (True, False, False)
    qwen3 = parse(architectures=["Qwen3ForCausalLM"], head_dim=32)
    assert (qwen3.attention_bias, qwen3.qk_norm, qwen3.head_dim) == (False, True, 32)
    mistral = parse(architectures=["MistralForCausalLM"], sliding_window=9)
    assert [mistral.window_of(layer) for layer in (0, 1)] == [9, 9]
    late = parse(
        architectures=["Qwen2ForCausalLM"],
        use_sliding_window=True,
        sliding_window=9,
        max_window_layers=1,
    )
    assert [late.window_of(layer) for layer in (0, 1)] == [None, 9]
    assert parse(architectures=["Qwen2ForCausalLM"], sliding_window=9).sliding_window is None


def test_rope_settings_are_read_in_both_spellings():
    linear = RopeScaling("linear", 4.0)
    assert parse(rope_scaling={"type": "linear", "factor": 4.0}).rope_scaling == linear
    new = parse(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 7.0})
    assert (new.rope_scaling, new.rope_theta) == (linear, 7.0)
    assert parse(rope_scaling={"rope_type": "default"}, rope_theta=9).rope_theta == 9.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "'GPT2LMHeadModel'"),
        ({"architectures": None}, "'none'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "'yarn'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "low_freq_factor"),
        ({"hidden_size": "wide"}, "wide"),
        ({"num_hidden_layers": 0}, "num_layers"),
        ({"num_key_value_heads": 3}, "4 heads over 3"),
        ({"num_attention_heads": 0}, "config.json"),
        ({"head_dim": 7}, "odd"),
        ({"rms_norm_eps": None}, "config.json"),
        ({"quantization_config": {"quant_method": "awq"}}, "awq"),
    ],
)
def test_what_cannot_run_is_one_line(changes, words):
    with pytest.raises(ModelError) as caught:
        parse(**changes)
    assert words in caught.value.message
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_a_missing_key_is_named():
    with pytest.raises(ModelError, match="'vocab_size'"):
        parse_config({k: v for k, v in WHOLE.items() if k != "vocab_size"}, "config.json")


def test_files_that_are_no_config_are_one_line(tmp_path):
    path = tmp_path / "config.json"
    with pytest.raises(ModelError, match="cannot be read"):
        ModelConfig.load(tmp_path)
    for text in ("", "[1]", "{", "\ufffd"):
        path.write_text(text)
        with pytest.raises(ModelError, match=r"config\.json"):
            ModelConfig.load(tmp_path)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ModelError, match=r"config\.json"):
        ModelConfig.load(tmp_path)


def test_generation_config_adds_its_end_tokens(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(WHOLE | {"eos_token_id": 5}))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 9]}))
    assert ModelConfig.load(tmp_path).eos_token_ids == (5, 9)


def test_parameters_are_counted_as_transformers_counts_them(reference_of, family):
    model, path = reference_of(family)
    assert ModelConfig.load(path).num_parameters == sum(p.numel() for p in model.parameters())
