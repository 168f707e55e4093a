"""What a model's passes have to read and compute, from its shape alone. No torch."""

from __future__ import annotations

from engine.models.config import ModelConfig
from profiler.events import ModelShape


def model_shape(config: ModelConfig) -> ModelShape:
    """Matrices without biases and norms."""
    hidden, heads_width = config.hidden_size, config.num_heads * config.head_dim
    attention_in = hidden * (heads_width + 2 * config.num_kv_heads * config.head_dim)
    tail = hidden * (heads_width + 3 * config.intermediate_size)
    return ModelShape(
        num_parameters=config.num_parameters,
        layer_weights=config.num_layers * (attention_in + tail),
        tail_weights=tail,
        head_weights=hidden * config.vocab_size,
        hidden_size=hidden,
        # Two operations each for its score and for its share of the values, in all heads.
        pair_flops=4 * config.num_layers * heads_width,
    )
