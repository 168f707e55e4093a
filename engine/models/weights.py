"""Where a decoder's tensors come from: files, or a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch

from engine.errors import ModelError
from engine.models.config import ModelConfig
from engine.models.decoder import Decoder, DecoderWeights, LayerWeights
from engine.models.folder import ModelFolder
from engine.models.progress import Progress, silent

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attention import Backend, ResidualLinear

INIT_STD = 0.02


class TensorSource(Protocol):
    """Gives tensors by Hugging Face's names, on the backend's device and in its dtype."""

    def take(self, name: str, *shape: int) -> Tensor:
        """Raises: ModelError when it is missing or shaped differently."""
        ...


class RandomSource:
    """Normal weights, drawn on the device; the same seed and device give the same model."""

    def __init__(self, device: torch.device, dtype: torch.dtype, seed: int) -> None:
        self._options: dict[str, Any] = {"device": device, "dtype": dtype}
        self._generator = torch.Generator(device).manual_seed(seed)

    def take(self, name: str, *shape: int) -> Tensor:
        if name.endswith("norm.weight"):
            return torch.ones(shape, **self._options)
        return torch.empty(shape, **self._options).normal_(0.0, INIT_STD, generator=self._generator)


class FileSource:
    """The safetensors files of a folder, mapped into memory."""

    def __init__(self, folder: ModelFolder, device: torch.device, dtype: torch.dtype) -> None:
        """Raises: ModelError for a file that is no safetensors file or is cut off."""
        from safetensors import SafetensorError, safe_open

        self._folder = folder
        self._device = device
        self._dtype = dtype
        self._files: dict[str, Any] = {}
        for path in folder.weight_files():
            try:
                file = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise ModelError(
                    f"{path} is not a whole safetensors file: {error}", "Fetch it again."
                ) from error
            self._files.update(dict.fromkeys(list(file.keys()), file))  # type: ignore[no-untyped-call]

    def take(self, name: str, *shape: int) -> Tensor:
        if name not in self._files:
            raise ModelError(f"{self._folder.path} lacks tensor {name}", "Fetch the model again.")
        tensor: Tensor = self._files[name].get_tensor(name)
        if tensor.shape != shape:
            raise ModelError(
                f"{self._folder.path}: {name} is {tuple(tensor.shape)}, its config says {shape}",
                "The weights and config.json are not of one model.",
            )
        if not tensor.is_floating_point():
            raise ModelError(
                f"{self._folder.path}: {name} is quantised ({tensor.dtype}), which is not read",
                "Take the model's bf16 or fp16 weights.",
            )
        return tensor.to(self._device, self._dtype)


def load_decoder(
    folder: ModelFolder, backend: Backend, progress: Progress = silent, seed: int = 0
) -> Decoder:
    """The decoder with its weights on the backend's device. Raises: ModelError."""
    source: TensorSource
    if folder.is_random:
        source = RandomSource(backend.device, backend.dtype, seed)
    else:
        source = FileSource(folder, backend.device, backend.dtype)
    with torch.inference_mode():
        weights = _Assembler(folder.config, backend, source).decoder(progress)
        return Decoder(folder.config, backend, weights)


class _Assembler:
    """Fuses what is multiplied by the same input, and packs it as the backend wants."""

    def __init__(self, config: ModelConfig, backend: Backend, source: TensorSource) -> None:
        self._config = config
        self._backend = backend
        self._take = source.take

    def decoder(self, progress: Progress) -> DecoderWeights:
        config = self._config
        embedding = self._take("model.embed_tokens.weight", config.vocab_size, config.hidden_size)
        layers = []
        for number in range(config.num_layers):
            progress("load", number, config.num_layers, "layers")
            layers.append(self._layer(f"model.layers.{number}.", config.window_of(number)))
        head = embedding
        if not config.tie_embeddings:
            head = self._take("lm_head.weight", config.vocab_size, config.hidden_size)
        norm = self._take("model.norm.weight", config.hidden_size)
        product = self._backend.norm_linear(norm, head, None, config.rms_eps)
        weights = DecoderWeights(embedding, layers, product)
        progress("load", config.num_layers, config.num_layers, "layers")
        return weights

    def _layer(self, prefix: str, window: int | None) -> LayerWeights:
        config = self._config
        hidden, inner = config.hidden_size, config.intermediate_size
        q, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        in_bias, out_bias = config.attention_bias, config.output_bias
        qkv = [(attention + name, n) for name, n in (("q_proj", q), ("k_proj", kv), ("v_proj", kv))]
        gate_up = [(mlp + name, inner) for name in ("gate_proj", "up_proj")]
        return LayerWeights(
            qkv=self._backend.norm_linear(
                self._take(prefix + "input_layernorm.weight", hidden),
                *self._fused(qkv, hidden, in_bias),
                config.rms_eps,
            ),
            q_norm=self._head_norm(attention + "q_norm.weight"),
            k_norm=self._head_norm(attention + "k_norm.weight"),
            output=self._joining(attention + "o_proj", q, out_bias),
            gate_up=self._backend.norm_gated_linear(
                self._take(prefix + "post_attention_layernorm.weight", hidden),
                *self._fused(gate_up, hidden, config.mlp_bias),
                config.rms_eps,
            ),
            down=self._joining(mlp + "down_proj", inner, config.mlp_bias),
            window=window,
        )

    def _joining(self, name: str, width: int, has_bias: bool) -> ResidualLinear:
        """The product of inputs of `width` that joins the residual stream."""
        parts = [(name, self._config.hidden_size)]
        return self._backend.residual_linear(*self._fused(parts, width, has_bias))

    def _fused(
        self, parts: list[tuple[str, int]], width: int, has_bias: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the parts, one after another."""
        weights = [self._take(f"{name}.weight", rows, width) for name, rows in parts]
        biases = [self._take(f"{name}.bias", rows) for name, rows in parts] if has_bias else []
        return _joined(weights), _joined(biases) if biases else None

    def _head_norm(self, name: str) -> Tensor | None:
        return self._take(name, self._config.head_dim) if self._config.qk_norm else None


def _joined(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)
