"""Rotary position tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from engine.models.config import ModelConfig, RopeScaling

if TYPE_CHECKING:
    from torch import Tensor


def rope_tables(config: ModelConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of every position and pair: two (max_position, head_dim / 2) fp32 tensors."""
    positions = torch.arange(config.max_position, dtype=torch.float32)
    angles = torch.outer(positions, frequencies(config))
    return angles.cos().to(device), angles.sin().to(device)


def frequencies(config: ModelConfig) -> Tensor:
    """Radians per position of each pair, (head_dim / 2,) fp32."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
    freqs = 1.0 / (config.rope_theta**exponents)
    if config.rope_scaling is None:
        return freqs
    if config.rope_scaling.kind == "linear":
        return freqs / config.rope_scaling.factor
    return _llama3(freqs, config.rope_scaling)


def _llama3(freqs: Tensor, scaling: RopeScaling) -> Tensor:
    """Short waves stay, long ones stretch by `factor`, those between blend. Source: Llama 3.1."""
    turns = scaling.original_max_position * freqs / (2 * math.pi)
    kept = ((turns - scaling.low) / (scaling.high - scaling.low)).clamp(0.0, 1.0)
    return freqs * (kept + (1.0 - kept) / scaling.factor)
