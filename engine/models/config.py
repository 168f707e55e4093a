"""What a decoder is made of, read from a Hugging Face config.json. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from engine.errors import ModelError

ARCHITECTURES: Final = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
RANDOM_KEY: Final = "random_weights"


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched; `kind` is "linear" or "llama3".

    Source: Llama 3.1 (`low`, `high` and `original_max_position` belong to "llama3" alone).
    """

    kind: str
    factor: float
    low: float = 1.0
    high: float = 4.0
    original_max_position: int = 8192


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of one decoder. Layers from `first_window_layer` on see `sliding_window` tokens.

    `random_weights` marks a shape without weight files: they are drawn when the model is loaded.
    """

    architecture: str
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_position: int
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    rms_eps: float = 1e-6
    tie_embeddings: bool = False
    attention_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    sliding_window: int | None = None
    first_window_layer: int = 0
    eos_token_ids: tuple[int, ...] = ()
    bos_token_id: int | None = None
    random_weights: bool = False

    @property
    def num_parameters(self) -> int:
        """Weights in the model, a tied head counted once."""
        table = self.vocab_size * self.hidden_size
        tables = table if self.tie_embeddings else 2 * table
        return tables + self.hidden_size + self.num_layers * self._layer_parameters

    @property
    def _layer_parameters(self) -> int:
        q, kv = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        hidden, inner = self.hidden_size, self.intermediate_size
        matrices = hidden * (2 * q + 2 * kv + 3 * inner)
        biases = self.attention_bias * (q + 2 * kv) + self.output_bias * hidden
        biases += self.mlp_bias * (2 * inner + hidden)
        return matrices + biases + 2 * hidden + self.qk_norm * 2 * self.head_dim

    def window_of(self, layer: int) -> int | None:
        """Tokens a token of this layer sees, itself included; None is all of them."""
        return self.sliding_window if layer >= self.first_window_layer else None

    @classmethod
    def load(cls, folder: Path) -> ModelConfig:
        """The config of a folder. Raises: ModelError."""
        config = parse_config(read_json(folder / "config.json"), str(folder / "config.json"))
        generation = folder / "generation_config.json"
        if not generation.is_file():
            return config
        eos = _token_ids(read_json(generation).get("eos_token_id"))
        return replace(config, eos_token_ids=tuple(dict.fromkeys(config.eos_token_ids + eos)))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises: ModelError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}",
            "A model folder holds config.json, tokenizer.json and *.safetensors.",
        ) from error
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}", "Fetch the file again.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object", "Fetch the file again.")
    return value


def parse_config(raw: Mapping[str, Any], source: str) -> ModelConfig:
    """The ModelConfig in a config.json. Raises: ModelError that names `source`."""
    architecture = _architecture(raw, source)
    _refuse_quantised(raw, source)
    try:
        return _parse(raw, architecture)
    except KeyError as error:
        raise ModelError(
            f"{source} lacks {error.args[0]!r}", "It is not a whole config; fetch it again."
        ) from error
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{source} has a value that cannot be run: {error}", "Take another form of the model."
        ) from error


def _architecture(raw: Mapping[str, Any], source: str) -> str:
    names = raw.get("architectures") or [raw.get("model_type", "none")]
    name = str(names[0])
    architecture = ARCHITECTURES.get(name, name)
    if architecture not in ARCHITECTURES.values():
        raise ModelError(
            f"{source}: architecture {name!r} is not one this engine runs",
            f"It runs {', '.join(ARCHITECTURES)}.",
        )
    return architecture


def _refuse_quantised(raw: Mapping[str, Any], source: str) -> None:
    settings = raw.get("quantization_config")
    if settings:
        method = settings.get("quant_method", "?") if isinstance(settings, dict) else settings
        raise ModelError(
            f"{source}: weights quantised with {method!s:.40} are not read",
            "Take the model's bf16 or fp16 weights, or a .gguf file.",
        )


def _parse(raw: Mapping[str, Any], architecture: str) -> ModelConfig:
    num_heads, hidden = int(raw["num_attention_heads"]), int(raw["hidden_size"])
    window, first_window = _window(raw, architecture)
    own_bias = architecture in ("llama", "qwen3") and bool(raw.get("attention_bias", False))
    config = ModelConfig(
        architecture=architecture,
        num_layers=int(raw["num_hidden_layers"]),
        hidden_size=hidden,
        intermediate_size=int(raw["intermediate_size"]),
        num_heads=num_heads,
        num_kv_heads=int(raw.get("num_key_value_heads") or num_heads),
        head_dim=int(raw.get("head_dim") or hidden // num_heads),
        vocab_size=int(raw["vocab_size"]),
        max_position=int(raw["max_position_embeddings"]),
        rope_theta=float(_rope(raw).get("rope_theta", 10_000.0)),
        rope_scaling=_scaling(_rope(raw)),
        rms_eps=float(raw["rms_norm_eps"]),
        tie_embeddings=bool(raw.get("tie_word_embeddings", False)),
        attention_bias=architecture == "qwen2" or own_bias,
        output_bias=own_bias,
        mlp_bias=bool(raw.get("mlp_bias", False)) and architecture == "llama",
        qk_norm=architecture == "qwen3",
        sliding_window=window,
        first_window_layer=first_window,
        eos_token_ids=_token_ids(raw.get("eos_token_id")),
        bos_token_id=next(iter(_token_ids(raw.get("bos_token_id"))), None),
        random_weights=bool(raw.get(RANDOM_KEY, False)),
    )
    _check_shape(config)
    return config


def _check_shape(config: ModelConfig) -> None:
    sizes = ("num_layers", "hidden_size", "intermediate_size", "num_heads", "num_kv_heads")
    for name in (*sizes, "head_dim", "vocab_size", "max_position"):
        if getattr(config, name) <= 0:
            raise ValueError(f"{name} must be positive")
    if config.num_heads % config.num_kv_heads:
        raise ValueError(f"{config.num_heads} heads over {config.num_kv_heads} KV heads")
    if config.head_dim % 2:
        raise ValueError(f"head_dim {config.head_dim} is odd")


def _rope(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary settings: newer files keep them in rope_parameters, older ones beside the rest."""
    rope = dict(raw.get("rope_parameters") or raw.get("rope_scaling") or {})
    if raw.get("rope_theta") is not None:
        rope.setdefault("rope_theta", raw["rope_theta"])
    return rope


def _scaling(rope: Mapping[str, Any]) -> RopeScaling | None:
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling(kind, float(rope["factor"]))
    if kind != "llama3":
        raise ValueError(f"rope scaling {kind!r} is not supported (default, linear, llama3 are)")
    return RopeScaling(
        kind,
        float(rope["factor"]),
        float(rope["low_freq_factor"]),
        float(rope["high_freq_factor"]),
        int(rope["original_max_position_embeddings"]),
    )


def _window(raw: Mapping[str, Any], architecture: str) -> tuple[int | None, int]:
    window = raw.get("sliding_window")
    if architecture == "llama" or window is None:
        return None, 0
    if architecture == "mistral":
        return int(window), 0
    if not raw.get("use_sliding_window", False):
        return None, 0
    return int(window), int(raw.get("max_window_layers", 0))


def _token_ids(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(int(v) for v in value) if isinstance(value, list) else (int(value),)
