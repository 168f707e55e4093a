"""A GGUF file made into a model folder: once, so that later starts only map the weights."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.errors import ModelError
from engine.models.checkpoint import CheckpointWriter
from engine.models.gguf_config import read_config
from engine.models.gguf_file import GgufFile
from engine.models.gguf_tokenizer import build_tokenizer
from engine.models.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GLOBAL_NAMES: Final = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
LAYER_NAMES: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
LAYER: Final = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
# Tensors that hold settings; read_config has taken what they say.
SETTINGS: Final = ("rope_freqs.weight",)


def convert_gguf(source: Path, folder: Path, progress: Progress) -> None:
    """Fills `folder` with the model in `source`. Raises: ModelError."""
    progress("convert", 0, 0, "tensors")  # reading a vocabulary takes seconds
    file = GgufFile(source)
    config = read_config(file)
    _write_json(folder / "config.json", config)
    build_tokenizer(file).save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(file, config))
    names = [name for name in file.tensor_names if name not in SETTINGS]
    writer = CheckpointWriter(folder)
    for done, name in enumerate(names):
        progress("convert", done, len(names), "tensors")
        writer.add(hf_name(name, file.path), _values(file, name, config))
    writer.close()
    progress("convert", len(names), len(names), "tensors")


def hf_name(name: str, source: Path) -> str:
    """Hugging Face's name of a tensor. Raises: ModelError."""
    stem, _, kind = name.rpartition(".")
    if stem in GLOBAL_NAMES:
        return f"{GLOBAL_NAMES[stem]}.{kind}"
    layer = LAYER.fullmatch(name)
    if layer and layer[2] in LAYER_NAMES:
        return f"model.layers.{layer[1]}.{LAYER_NAMES[layer[2]]}.{layer[3]}"
    raise ModelError(
        f"{source}: tensor {name} is none of a decoder's", "Take another file of the model."
    )


def _values(file: GgufFile, name: str, config: dict[str, Any]) -> NDArray[np.float32]:
    values = file.tensor(name)
    if file.metadata["general.architecture"] != "llama":
        return values
    if ".attn_q." in name:
        return unpermute(values, config["num_attention_heads"])
    if ".attn_k." in name:
        return unpermute(values, config["num_key_value_heads"])
    return values


def unpermute(values: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """Rows in rotate-half order: llama.cpp keeps the two of a pair side by side for llama."""
    pairs = values.reshape(num_heads, -1, 2, *values.shape[1:])
    return pairs.swapaxes(1, 2).reshape(values.shape)


def _tokenizer_config(file: GgufFile, config: dict[str, Any]) -> dict[str, Any]:
    tokens = file.metadata["tokenizer.ggml.tokens"]
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": config["max_position_embeddings"],
    }
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        token_id = file.metadata.get(f"tokenizer.ggml.{key}_token_id")
        if token_id is not None and 0 <= token_id < len(tokens):
            settings[f"{name}_token"] = tokens[token_id]
    template = file.metadata.get("tokenizer.chat_template")
    return settings | ({"chat_template": template} if template else {})


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")
