"""What a model takes is known before it is loaded."""

from __future__ import annotations

import pytest
import torch

from engine.cpu.backend import CpuBackend
from engine.errors import DoesNotFitError
from engine.models.folder import ModelFolder
from engine.models.memory import GIB, MemoryEstimator
from engine.models.registry import ModelRegistry


@pytest.fixture
def qwen(tmp_path):
    return ModelRegistry(tmp_path).resolve("random:qwen2.5-7b").config


def test_numbers_of_a_known_model(qwen):
    estimator = MemoryEstimator(qwen, 2, 16)
    assert estimator.weights_bytes == pytest.approx(15.23e9, rel=1e-3)
    assert estimator.kv_bytes_per_token == 2 * 28 * 4 * 128 * 2
    assert estimator.page_bytes == 16 * estimator.kv_bytes_per_token


def test_estimates_equal_what_is_allocated(reference_of, family):
    model, path = reference_of(family)
    config = ModelFolder.open(path).config
    estimator = MemoryEstimator(config, 4, 8)
    assert estimator.weights_bytes == sum(p.numel() * 4 for p in model.parameters())
    backend = CpuBackend(torch.float32, 1)
    pool = backend.allocate_pool(5, config.num_kv_heads, 8, config.head_dim)
    allocated = config.num_layers * sum(half.numel() * half.itemsize for half in pool)
    assert allocated == 5 * estimator.page_bytes


def test_pages_fill_what_the_weights_leave(qwen):
    estimator = MemoryEstimator(qwen, 2, 16)
    room = estimator.weights_bytes + 1000 * estimator.page_bytes
    assert estimator.pages_that_fit(room + estimator.page_bytes - 1, 16_000) == 1000
    with pytest.raises(DoesNotFitError, match=r"16001 tokens needs 0\.85 GiB") as caught:
        estimator.pages_that_fit(room, 16_001)
    assert caught.value.hint == "--max-model-len 16000 fits."


def test_weights_that_do_not_fit_are_refused_with_both_numbers(qwen):
    with pytest.raises(DoesNotFitError, match=r"need 14\.19 GiB, and 8\.00 GiB are there"):
        MemoryEstimator(qwen, 2, 16).pages_that_fit(8 * GIB, 1)
