"""The cost of observing, measured by a real server: nothing is lost, nothing goes back in time."""

from __future__ import annotations

from contextlib import closing

from profiler.events import ObserverCost, RequestFinished, Step
from profiler.session.reader import SessionReader
from profiler.state import SessionState, time_of

# What several processes write may be out of order by as much, without any measurement too.
APART_NS = 500_000_000


def test_a_measurement_is_recorded_with_every_step_where_it_belongs(start_server):
    server = start_server(owner_key="mine").wait_until_ready()
    body = {"prompt": "hello", "max_tokens": 1900, "ignore_eos": True, "stream": True}
    with server.client.stream("POST", "/v1/completions", json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        order = "/v1/llmtop/observer"
        assert server.client.post(order, json={}).status_code == 403
        mine = {"x-llmtop-owner": "mine"}
        assert server.client.post(order, json={}, headers=mine).status_code == 202
        assert list(lines)[-2:] == ["data: [DONE]", ""]
    server.close_lifeline()
    assert server.ended() == 0
    with closing(SessionReader(server.session)) as session:
        events = [event for _, event in session.events(0)]
    told = [event for event in events if isinstance(event, ObserverCost)]
    assert told[0].status == "unobserved" and told[-1].status in ("idle", "done")
    assert len(told) > 2 and told[-1].turns[0].num_steps > 0
    steps = [event for event in events if isinstance(event, Step)]
    assert [step.step for step in steps] == list(range(1, len(steps) + 1))
    (done,) = [event for event in events if isinstance(event, RequestFinished)]
    assert sum(row.new_tokens for step in steps for row in step.rows) == done.num_output_tokens
    newest_ns = 0
    for event in events:
        newest_ns = max(newest_ns, time_of(event))
        assert time_of(event) > newest_ns - APART_NS
    state = SessionState()
    for seq, event in enumerate(events, 1):
        state.apply(event, seq)
    assert state.observing.last == told[-1] and state.totals.generated_tokens == 1900
