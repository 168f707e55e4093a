"""The batch of a plan says what the plan says."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch

from engine.config import SamplingParams, SchedulerConfig
from engine.kv.cache import PagedKVCache
from engine.last_tokens import LastTokens
from engine.plan import Plan
from engine.request import EngineRequest
from engine.scheduler import Scheduler
from engine.staging import Stager

BLOCK, MAX_LEN = 4, 64


def check_batch(plan: Plan, stager: Stager) -> None:
    batch = stager.stage(plan).batch
    tokens, positions, slots, wanted, prompts = [], [], [], [], []
    for row in plan.rows:
        sequence = row.sequence
        for i in range(row.start, row.start + row.num_tokens):
            if sequence.wants_prompt_logprobs and i + 1 < sequence.num_prompt:
                prompts.append(len(tokens))
            tokens.append(sequence.token_ids[i])
            positions.append(i)
            slots.append(sequence.pages[i // BLOCK] * BLOCK + i % BLOCK)
        if row.samples:
            wanted.append(len(tokens) - 1)
    assert batch.token_ids.tolist() == tokens
    assert batch.positions.tolist() == positions
    assert batch.slots.tolist() == slots
    assert batch.logit_rows.tolist() == wanted + prompts
    assert batch.query_lens == tuple(row.num_tokens for row in plan.rows)
    assert batch.context_lens == tuple(row.start + row.num_tokens for row in plan.rows)
    assert batch.context_lens_device.tolist() == list(batch.context_lens)
    starts = batch.query_starts.tolist()
    assert [b - a for a, b in pairwise(starts)] == list(batch.query_lens)
    assert batch.num_tokens == plan.num_tokens == starts[-1]
    for row, table in zip(plan.rows, batch.block_tables.tolist(), strict=True):
        num_pages = -(-(row.start + row.num_tokens) // BLOCK)
        assert table[:num_pages] == row.sequence.pages[:num_pages]
    assert [t.dtype for t in (batch.token_ids, batch.block_tables)] == [torch.int64, torch.int32]


@pytest.mark.parametrize("budget", [5, 64])
def test_every_batch_of_a_busy_run_is_the_plans(budget):
    """Seats are taken over, tables grow, sequences are preempted and come back."""
    config = SchedulerConfig(max_num_batched_tokens=budget, max_num_seqs=4)
    scheduler = Scheduler(config, PagedKVCache(20, BLOCK), MAX_LEN)
    cpu = torch.device("cpu")
    stager = Stager(cpu, BLOCK, 4, MAX_LEN, MAX_LEN, LastTokens(4, cpu))
    rand = random.Random(budget)
    for number in range(1, 13):
        prompt = tuple(rand.randrange(100) for _ in range(rand.randrange(1, 20)))
        params = SamplingParams(prompt_logprobs=0 if number % 4 == 0 else None)
        scheduler.add(EngineRequest(number, "", prompt, params), rand.randrange(1, 40), 0)
    num_preempted = 0
    while scheduler.has_work:
        plan = scheduler.plan()
        assert plan is not None
        num_preempted += len(plan.preempted)
        check_batch(plan, stager)
        for row in plan.rows:
            scheduler.commit(row)
            if row.samples and row.sequence.append(rand.randrange(100)):
                scheduler.remove(row.sequence)
        scheduler.check()
    assert num_preempted
    assert 0 < stager.num_written <= 20


def test_a_token_that_the_host_does_not_know_is_the_seats_last():
    scheduler = Scheduler(SchedulerConfig(max_num_seqs=4), PagedKVCache(20, BLOCK), MAX_LEN)
    cpu = torch.device("cpu")
    last_tokens = LastTokens(4, cpu)
    stager = Stager(cpu, BLOCK, 4, MAX_LEN, MAX_LEN, last_tokens)
    for number in (1, 2):
        scheduler.add(EngineRequest(number, "", (7,) * number, SamplingParams()), 9, 0)
    first = stager.stage(scheduler.plan())
    last_tokens.keep(first.seats, torch.tensor([41, 42]))
    scheduler.add(EngineRequest(3, "", (5, 6), SamplingParams()), 9, 0)
    second = stager.stage(scheduler.plan())
    assert second.batch.token_ids.tolist() == [41, 42, 5, 6]
    assert second.batch.context_lens == (2, 3, 2)
    assert first.batch.token_ids.tolist() == [7, 7, 7], "the step under way keeps its batch"
