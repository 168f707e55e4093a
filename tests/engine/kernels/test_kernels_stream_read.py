"""The kernel that measures the memory: it must have read every element, or its rate is a lie."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.kernels.stream_read import BLOCK, NUM_BLOCKS, stream_read

STRETCH = NUM_BLOCKS * BLOCK


def test_every_element_counts_once(device: Any) -> None:
    data = torch.zeros(3 * STRETCH, device=device)
    picked = [0, 1, BLOCK, STRETCH - 1, STRETCH, 2 * STRETCH + 5, 3 * STRETCH - 1]
    data[picked] = torch.arange(1.0, 8.0, device=device)
    assert stream_read(data).tolist() == [10.0, 5.0, 13.0]


def test_wrong_arguments_are_named(device: Any) -> None:
    with pytest.raises(ValueError, match="multiple of"):
        stream_read(torch.ones(STRETCH + 1, device=device))
    with pytest.raises(TypeError, match="data must be"):
        stream_read(torch.ones(STRETCH, dtype=torch.int32, device=device))
