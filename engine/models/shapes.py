"""Known shapes for models without weight files, `random:NAME`. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from engine.errors import ModelError
from engine.models.bytes import NUM_BYTES
from engine.models.config import RANDOM_KEY

PREFIX: Final = "random:"
# Each as its model's config.json has it; the end-of-text id is the first that is no byte.
SHAPES: Final[dict[str, dict[str, Any]]] = {
    "tiny": {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 64,
        "intermediate_size": 176,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 320,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": True,
    },
    "smollm2-135m": {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49_152,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100_000.0,
        "tie_word_embeddings": True,
    },
    "qwen2.5-7b": {
        "architectures": ["Qwen2ForCausalLM"],
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152_064,
        "max_position_embeddings": 32_768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": False,
    },
    "llama-3.1-8b": {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "tie_word_embeddings": False,
    },
}


def shape(name: str) -> dict[str, Any]:
    """The config.json of a named shape. Raises: ModelError."""
    if name not in SHAPES:
        raise ModelError(
            f"{PREFIX}{name} is not a known shape", f"Known shapes: {', '.join(SHAPES)}."
        )
    return SHAPES[name] | {RANDOM_KEY: True, "eos_token_id": NUM_BYTES}


def write_shape(name: str, folder: Path) -> None:
    """Fills `folder` with the config of a named shape. Raises: ModelError."""
    (folder / "config.json").write_text(json.dumps(shape(name), indent=2), encoding="utf-8")
