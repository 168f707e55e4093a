"""Writes that wait are told of, and only while they do."""

from __future__ import annotations

from engine.config import SamplingParams
from engine.request import TokenOutput
from engine.server.generation import Order
from engine.server.outbox import Outbox
from profiler.events import ClientBehind

S = 1_000_000_000


async def parts():
    yield b"one"
    yield b"two"


async def test_a_write_that_waits_is_told_with_what_waits_behind_it(engine, core):
    core.automatic = False
    now_ns = [5 * S]
    outbox = Outbox(clock=lambda: now_ns[0])
    generation = engine.generate(Order("name", [[1]], SamplingParams(max_tokens=8)))
    passing = outbox.passing(generation, parts())
    assert await anext(passing) == b"one"
    engine.take([TokenOutput(1, [97]), TokenOutput(1, [98])])
    now_ns[0] += S - 1
    assert outbox.behind() == []
    now_ns[0] += 1
    assert outbox.behind() == [ClientBehind(6 * S, 1, 5 * S, 2)]
    assert await anext(passing) == b"two"
    assert outbox.behind() == []
    now_ns[0] += 3 * S
    assert [event.since_ns for event in outbox.behind()] == [6 * S]
    await passing.aclose()
    assert outbox.behind() == []


async def test_its_parts_end_when_the_client_goes(engine, core):
    core.automatic = False
    ended = []

    async def told():
        try:
            yield b"one"
        finally:
            ended.append(True)

    generation = engine.generate(Order("name", [[1]], SamplingParams(max_tokens=8)))
    passing = Outbox().passing(generation, told())
    await anext(passing)
    await passing.aclose()
    assert ended == [True]
