"""A model small enough to be read token by token, with heads that every format can pack."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from engine.cpu.backend import CpuBackend
from engine.models.config import ModelConfig
from engine.models.decoder import Decoder
from engine.models.folder import ModelFolder
from engine.models.weights import load_decoder


class Tiny(NamedTuple):
    decoder: Decoder
    backend: CpuBackend
    windows: list[list[int]]


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    shape = ModelConfig("llama", 2, 64, 96, 2, 1, 64, 320, 1024, random_weights=True)
    backend = CpuBackend(torch.float32, 1)
    decoder = load_decoder(ModelFolder(Path("nowhere"), "tiny", shape), backend, seed=1)
    draw = torch.Generator().manual_seed(0)
    windows = torch.randint(320, (2, 261), generator=draw).tolist()
    return Tiny(decoder, backend, windows)
