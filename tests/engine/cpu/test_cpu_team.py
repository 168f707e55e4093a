"""Compiled loops run on torch's threads, on one where there are no others, and are never stale."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.attention import Hidden
from engine.cpu import compiled, team
from engine.cpu.attend import exp2
from engine.cpu.backend import CpuBackend


def added_norm(num_threads):
    torch.manual_seed(0)
    x, residual = torch.randn(2, 500, 96)
    backend = CpuBackend(torch.float32, num_threads)
    out = backend.norm_of(Hidden(residual, x), torch.rand(96), 1e-5)
    return torch.stack((out, residual))


@pytest.mark.parametrize("num_threads", [2, 5])
def test_every_row_is_done_by_one_thread(num_threads):
    assert torch.equal(added_norm(num_threads), added_norm(1))


def test_without_openmp_the_caller_does_it_all(monkeypatch):
    expected = added_norm(2)
    monkeypatch.setattr(team, "OPENMP", None)
    assert torch.equal(added_norm(2), expected)


def test_powers_of_two_are_within_rounding():
    x = -np.logspace(-6, 2, 4000, dtype=np.float32)
    powers = np.array([exp2(value) for value in x])
    np.testing.assert_allclose(powers, np.exp2(x.astype(np.float64)), rtol=3e-7)


def test_another_source_means_another_cache(monkeypatch, tmp_path):
    (tmp_path / "a.py").write_text("one = 1")
    monkeypatch.setattr(compiled, "HERE", tmp_path)
    first = compiled.cache_folder()
    assert compiled.cache_folder() == first
    (tmp_path / "b.py").write_text("two = 2")
    assert compiled.cache_folder() != first
