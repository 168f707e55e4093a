"""Memory that a pass gave back is there for the next one."""

from __future__ import annotations

import resource

import pytest
import torch

from engine.cpu.allocator import keep_freed_memory

NUM_BYTES = 16 << 20


def test_freed_memory_is_used_again_without_faults():
    if not keep_freed_memory():
        pytest.skip("malloc is not glibc's")
    for _ in range(2):
        torch.ones(NUM_BYTES, dtype=torch.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(NUM_BYTES, dtype=torch.uint8)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults < NUM_BYTES // 4096
