"""Memory that a pass gave back is there for the next one."""

from __future__ import annotations

import resource

import pytest
import torch

from engine.cpu.allocator import keep_freed_memory

NUM_BYTES = 16 << 20
NUM_BLOCKS = 20


def faults_of_blocks() -> int:
    """Page faults while `NUM_BLOCKS` blocks are made, written and given back, one by one."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(NUM_BLOCKS):
        torch.ones(NUM_BYTES, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_freed_memory_is_used_again_without_faults():
    if not keep_freed_memory():
        pytest.skip("malloc is not glibc's")
    faults_of_blocks()  # what else lives on the heap parts a few blocks before one finds its place
    assert faults_of_blocks() < NUM_BYTES // 4096
