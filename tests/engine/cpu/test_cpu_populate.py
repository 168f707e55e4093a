"""Memory is backed before its use, and what it holds stays."""

from __future__ import annotations

import resource

import numpy as np
import pytest
import torch

from engine.cpu.pages import CpuPool
from engine.cpu.populate import (
    POOL_BYTES,
    STEP_BYTES,
    WIDE_POOL_BYTES,
    populate,
    populate_pools,
)
from engine.kv.formats import KV_FORMATS, RecordLayout


def test_what_is_backed_keeps_its_content_and_costs_no_fault():
    pool = CpuPool.allocate(4096, 3, 16, 64, torch.float32)
    pool.k[5].fill_(1.5)
    populate_pools([pool]).join()
    if not pool.populated_bytes:
        pytest.skip("this system cannot back memory ahead")
    assert pool.populated_bytes == POOL_BYTES < pool.memory.nbytes
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    # One huge page may be begun before the range, one after it.
    pool.memory.view(-1)[STEP_BYTES // 4 : (POOL_BYTES - STEP_BYTES) // 4 : 1024] += 1
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    assert faults < (POOL_BYTES - 2 * STEP_BYTES) // 4096 // 2
    assert (pool.k[5] >= 1.5).all() and (pool.k[5] <= 2.5).all()


def test_less_than_a_huge_page_is_left_alone():
    small = np.zeros(1000, np.int64)
    assert populate(small.ctypes.data, small.nbytes) == 0


def test_of_wide_pages_beside_packed_ones_only_the_first_are_backed():
    layout = RecordLayout(KV_FORMATS["int4"], 64, 64, 4)
    pool = CpuPool.allocate_packed(400, 400, 3, layout, torch.float32)
    populate_pools([pool]).join()
    assert pool.populated_bytes in (0, WIDE_POOL_BYTES)
