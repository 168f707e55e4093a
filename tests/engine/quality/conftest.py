"""The tiny model, and two windows of text for it."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch


class Tiny(NamedTuple):
    decoder: Any
    backend: Any
    windows: list[list[int]]


@pytest.fixture(scope="module")
def tiny(tiny_decoder) -> Tiny:
    draw = torch.Generator().manual_seed(0)
    return Tiny(*tiny_decoder, torch.randint(320, (2, 261), generator=draw).tolist())
