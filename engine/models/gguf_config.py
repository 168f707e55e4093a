"""The config.json that a GGUF file's metadata amounts to. No torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from engine.errors import ModelError
from engine.models.gguf_file import GgufFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ARCHITECTURES: Final = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
# Llama 3.1 and all that follow it; the file keeps only the factors that come of them.
LLAMA3_LOW, LLAMA3_HIGH, LLAMA3_ORIGINAL = 1.0, 4.0, 8192


def read_config(file: GgufFile) -> dict[str, Any]:
    """What Hugging Face's config.json would say. Raises: ModelError."""
    architecture = str(file.metadata.get("general.architecture", "none"))
    if architecture not in ARCHITECTURES:
        raise ModelError(
            f"{file.path}: architecture {architecture!r} is not one this engine runs",
            f"It runs {', '.join(ARCHITECTURES)} (Mistral files say llama).",
        )
    return _Reader(file, architecture).config()


class _Reader:
    def __init__(self, file: GgufFile, architecture: str) -> None:
        self._file = file
        self._architecture = architecture

    def config(self) -> dict[str, Any]:
        hidden, heads = self._int("embedding_length"), self._int("attention.head_count")
        if self._get("expert_count"):
            raise self._refusal("mixtures of experts are not supported")
        head_dim = int(self._get("attention.key_length") or hidden // max(1, heads))
        if self._get("rope.dimension_count") not in (None, head_dim):
            raise self._refusal("rotary embedding of a part of the head is not supported")
        names = self._file.tensor_names
        config = {
            "hidden_size": hidden,
            "intermediate_size": self._int("feed_forward_length"),
            "num_hidden_layers": self._int("block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": int(self._get("attention.head_count_kv") or heads),
            "head_dim": head_dim,
            "vocab_size": self._file.shape("token_embd.weight")[0],
            "max_position_embeddings": self._int("context_length"),
            "rms_norm_eps": round(float(self._need("attention.layer_norm_rms_epsilon")), 12),
            "rope_theta": float(self._get("rope.freq_base") or 10_000.0),
            "rope_scaling": self._rope_scaling(head_dim),
            "tie_word_embeddings": "output.weight" not in names,
            "attention_bias": "blk.0.attn_q.bias" in names,
            "torch_dtype": "bfloat16",
        }
        return config | self._family() | self._token_ids()

    def _family(self) -> dict[str, Any]:
        """Mistral's files say llama; those that say a window too are told apart by it."""
        window = self._get("attention.sliding_window")
        if self._architecture == "llama" and window:
            return {
                "architectures": ["MistralForCausalLM"],
                "model_type": "mistral",
                "sliding_window": int(window),
            }
        return {
            "architectures": [ARCHITECTURES[self._architecture]],
            "model_type": self._architecture,
        }

    def _token_ids(self) -> dict[str, Any]:
        ids = {
            name: self._file.metadata.get(f"tokenizer.ggml.{name}_token_id")
            for name in ("bos", "eos", "eot", "padding")
        }
        ends = [int(i) for i in (ids["eos"], ids["eot"]) if i is not None]
        return {
            "bos_token_id": ids["bos"],
            "eos_token_id": list(dict.fromkeys(ends)),
            "pad_token_id": ids["padding"],
        }

    def _rope_scaling(self, head_dim: int) -> dict[str, Any] | None:
        if "rope_freqs.weight" in self._file.tensor_names:
            factors = self._file.tensor("rope_freqs.weight")
            return self._llama3(factors, head_dim)
        kind = self._get("rope.scaling.type")
        if kind in (None, "none"):
            return None
        factor = float(self._get("rope.scaling.factor") or 1.0)
        return {"rope_type": str(kind), "factor": factor}

    def _llama3(self, factors: NDArray[np.float32], head_dim: int) -> dict[str, Any]:
        """The scaling whose factors these are. Raises: ModelError if Llama 3's are different."""
        theta = float(self._get("rope.freq_base") or 10_000.0)
        factor = round(float(factors.max()), 3)
        expected = llama3_factors(theta, head_dim, factor)
        if len(factors) != len(expected) or any(
            not math.isclose(f, e, rel_tol=1e-3) for f, e in zip(factors, expected, strict=True)
        ):
            raise self._refusal("its rotary factors (rope_freqs) are not those of Llama 3")
        return {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": LLAMA3_LOW,
            "high_freq_factor": LLAMA3_HIGH,
            "original_max_position_embeddings": LLAMA3_ORIGINAL,
        }

    def _get(self, key: str) -> Any:
        return self._file.metadata.get(f"{self._architecture}.{key}")

    def _need(self, key: str) -> Any:
        value = self._get(key)
        if value is None:
            raise self._refusal(f"it lacks {self._architecture}.{key}")
        return value

    def _int(self, key: str) -> int:
        value = self._need(key)
        if not isinstance(value, int):
            raise self._refusal(f"{self._architecture}.{key} is not a whole number")
        return value

    def _refusal(self, what: str) -> ModelError:
        return ModelError(f"{self._file.path}: {what}", "Take another file of the model.")


def llama3_factors(theta: float, head_dim: int, factor: float) -> list[float]:
    """What each rotary frequency is divided by. Source: Llama 3.1."""
    factors = []
    for pair in range(0, head_dim, 2):
        turns = LLAMA3_ORIGINAL * theta ** (-pair / head_dim) / (2 * math.pi)
        kept = (turns - LLAMA3_LOW) / (LLAMA3_HIGH - LLAMA3_LOW)
        kept = min(1.0, max(0.0, kept))
        factors.append(1 / (kept + (1 - kept) / factor))
    return factors
