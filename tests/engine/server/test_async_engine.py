from __future__ import annotations

import asyncio

import pytest

from engine.config import SamplingParams
from engine.errors import EngineError, InvalidRequestError
from engine.request import TokenOutput
from engine.server.generation import Order
from engine.server.http_errors import NotServingError


@pytest.fixture
def quiet(core):
    """A core that answers only what a test has it answer."""
    core.automatic = False
    return core


def order(*prompts: list[int], n: int = 1, **params: object) -> Order:
    return Order("name", prompts or ([1],), SamplingParams(n=n, **params))


def token(request: int, value: int, end: str | None = None) -> TokenOutput:
    return TokenOutput(request, [value], finish_reason=end)


async def test_requests_are_numbered_from_1_over_the_whole_session(engine, quiet):
    engine.generate(order([1], [2], n=2))
    engine.generate(order())
    assert [request.request for request in quiet.added] == [1, 2, 3, 4, 5]
    assert [request.name for request in quiet.added] == [
        "name-0",
        "name-1",
        "name-2",
        "name-3",
        "name",
    ]


async def test_outputs_go_to_the_generation_they_belong_to(engine, quiet):
    one, two = engine.generate(order()), engine.generate(order())
    engine.take([token(2, 98), token(1, 97, "length")])
    assert [update.text for update in await one.next()] == ["a"]
    assert [update.text for update in await two.next()] == ["b"]
    assert (one.done, two.done) == (True, False)
    assert engine.num_unfinished == 1


async def test_a_slow_reader_gets_several_steps_as_one_update(engine, quiet):
    generation = engine.generate(order([1], [2]))
    for value in b"abc":
        engine.take([token(1, value), token(2, value)])
    engine.take([token(1, ord("d"), "stop")])
    one, two = await generation.next()
    assert (one.text, one.token_ids, one.finish_reason) == ("abcd", list(b"abcd"), "stop")
    assert (two.text, two.finish_reason) == ("abc", None)
    assert generation.usage().completion_tokens == 7


async def test_a_cancelled_generation_is_aborted_and_its_late_outputs_are_lost(engine, quiet):
    generation = engine.generate(order(n=2))
    engine.take([token(1, 97, "stop")])
    engine.cancel(generation, "disconnect")
    assert quiet.aborted == [(2, "disconnect")]
    engine.take([token(2, 98)])
    assert engine.num_unfinished == 0
    engine.cancel(generation, "disconnect")
    assert quiet.aborted == [(2, "disconnect")]


async def test_when_the_core_dies_every_generation_fails_and_none_can_begin(engine, quiet):
    generations = [engine.generate(order()), engine.generate(order(n=3))]
    engine.fail(EngineError("the core is gone"))
    for generation in generations:
        with pytest.raises(EngineError, match="the core is gone"):
            await generation.next()
    with pytest.raises(NotServingError):
        engine.generate(order())
    assert engine.state == "failed"
    assert quiet.aborted == []


async def test_what_came_before_the_death_does_not_hide_it(engine, quiet):
    generation = engine.generate(order())
    engine.take([token(1, 97)])
    engine.fail(EngineError("gone"))
    with pytest.raises(EngineError, match="gone"):
        await generation.next()


async def test_a_request_that_the_engine_gives_up_fails_with_its_siblings(engine, quiet):
    generation = engine.generate(order(n=2))
    engine.take([token(1, 0, "error: out of memory")])
    with pytest.raises(EngineError, match="out of memory"):
        await generation.next()
    assert [number for number, _ in quiet.aborted] == [1, 2]


async def test_a_request_out_of_range_never_reaches_the_core(engine, quiet):
    for bad in (order([300]), order(list(range(64))), order(temperature=-1.0)):
        with pytest.raises(InvalidRequestError):
            engine.generate(bad)
    assert quiet.added == []
    engine.generate(order())
    assert quiet.added[0].request == 1


async def test_a_drain_ends_with_the_last_request_and_takes_no_new_one(engine, quiet):
    generation = engine.generate(order())
    draining = asyncio.create_task(engine.drain(60))
    await asyncio.sleep(0)
    with pytest.raises(NotServingError, match="shutting down"):
        engine.generate(order())
    assert not draining.done()
    engine.take([token(1, 97, "stop")])
    await draining
    assert (await generation.next())[0].text == "a"


async def test_a_drain_without_requests_is_over_at_once(engine, quiet):
    await engine.drain(60)
    assert engine.state == "draining"


async def test_what_is_dropped_after_a_drain_is_told_so(engine, quiet):
    generation = engine.generate(order())
    await engine.drain(0)
    engine.drop_all("shutdown")
    assert quiet.aborted == [(1, "shutdown")]
    with pytest.raises(NotServingError, match="stopped before"):
        await generation.next()


async def test_a_full_queue_is_503_and_the_rest_of_the_order_is_aborted(client, core):
    core.queue_full = True
    body = {"prompt": ["a", "b"]}
    for stream in (False, True):
        response = await client.post("/v1/completions", json={**body, "stream": stream})
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert response.json()["error"]["code"] == "queue_full"
    assert core.engine.num_unfinished == 0


async def test_a_failure_after_the_first_chunk_ends_the_stream_with_an_error_object(
    client, engine, quiet
):
    body = {"prompt": "a", "stream": True}
    asking = asyncio.create_task(client.post("/v1/completions", json=body))
    while not quiet.added:
        await asyncio.sleep(0)
    engine.take([token(1, 97)])
    for _ in range(10):
        await asyncio.sleep(0)
    engine.fail(EngineError("the core is gone", "look at the log"))
    response = await asking
    assert response.status_code == 200
    first, last = [line for line in response.text.split("\n") if line.startswith("data: ")]
    assert '"text":"a"' in first
    assert "the core is gone. look at the log" in last
    assert "[DONE]" not in response.text
