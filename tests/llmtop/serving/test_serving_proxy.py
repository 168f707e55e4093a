"""The proxy before a real server, used by a real client: both tell the same of each request."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from profiler.events import (
    AnyEvent,
    RequestAborted,
    RequestAnswered,
    RequestFinished,
    RequestFirstToken,
    RequestQueued,
    SessionStart,
    TokensReceived,
)
from profiler.session.reader import SessionReader

ROOT = Path(__file__).resolve().parents[3]
SLACK_NS = 2_000_000_000  # of a busy machine; one clock is behind both


class Proxy:
    """`llmtop proxy` without a dashboard, as a person starts it."""

    def __init__(self, upstream: str, session: Path) -> None:
        self.session = session
        flags = ("--headless", "--port", "0", "--session", str(session))
        self.process = subprocess.Popen(
            (sys.executable, "-m", "llmtop", "proxy", "--upstream", upstream, *flags),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.url = line.split()[1] if line.startswith("ready: ") else ""
        assert self.url, self.process.communicate()

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def events_of(session: Path) -> list[AnyEvent]:
    reader = SessionReader(session)
    events = [event for _, event in reader.events()]
    reader.close()
    return events


def of(events: list[AnyEvent], kind: type) -> list:
    return [event for event in events if isinstance(event, kind)]


def pieces(events: list[AnyEvent], request: int) -> list[int]:
    return [
        arrival.num_tokens
        for event in of(events, TokensReceived)
        for arrival in event.arrivals
        if arrival.request == request
    ]


@pytest.fixture(scope="module")
def told(start_server, tmp_path_factory, openai) -> tuple[list[AnyEvent], list[AnyEvent], int]:
    """The server's events, the proxy's, and the proxy's exit code, after some requests."""
    server = start_server().wait_until_ready()
    proxy = Proxy(server.url, tmp_path_factory.mktemp("proxy") / "proxy.db")
    try:
        client = openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="none", max_retries=0)
        use(client, openai.BadRequestError, proxy.url)
        code = proxy.interrupt()
    finally:
        proxy.kill()
    server.close_lifeline()
    assert server.ended() == 0
    return events_of(server.session), events_of(proxy.session), code


def use(client: Any, refused: type[Exception], url: str) -> None:
    """One request after the other, so that both sides number them alike."""
    asks = {"model": client.models.list().data[0].id, "max_tokens": 24}
    exact = {"ignore_eos": True, "stream_options": {"include_usage": True}}
    for _ in client.completions.create(**asks, prompt="one", stream=True, extra_body=exact):
        pass
    each = {"ignore_eos": True, "stream_options": {
        "include_usage": True, "continuous_usage_stats": True}}  # fmt: skip
    messages = [{"role": "user", "content": "two"}]
    for _ in client.chat.completions.create(
        **asks, messages=messages, stream=True, extra_body=each
    ):
        pass
    client.completions.create(**asks, prompt="three", extra_body={"ignore_eos": True})
    with pytest.raises(refused):
        client.completions.create(**asks | {"max_tokens": -1}, prompt="four")
    stream = client.completions.create(
        **asks | {"max_tokens": 1900}, prompt="five", stream=True, n=4,
        extra_body={"ignore_eos": True},
    )  # fmt: skip
    next(iter(stream))
    stream.close()
    assert httpx.get(f"{url}/metrics").text.startswith("#")
    time.sleep(0.5)


def test_both_count_the_same_tokens(told) -> None:
    server, proxy, _ = told
    ours = {event.request: event.num_output_tokens for event in of(server, RequestFinished)}
    theirs = {event.request: event.num_output_tokens for event in of(proxy, RequestFinished)}
    assert theirs == {1: 24, 2: 24, 3: 24}
    assert {request: ours[request] for request in theirs} == theirs
    prompts = {event.request: event.num_prompt_tokens for event in of(server, RequestQueued)}
    answered = {event.request: event for event in of(proxy, RequestAnswered)}
    assert all(answered[request].num_prompt_tokens == prompts[request] for request in theirs)


def test_pieces_that_are_counted_one_by_one_add_up(told) -> None:
    _, proxy, _ = told
    assert sum(pieces(proxy, 2)) == 24
    assert pieces(proxy, 3) == [24]


def test_the_first_token_comes_right_after_the_step_that_made_it(told) -> None:
    server, proxy, _ = told
    made = {event.request: event.t_ns for event in of(server, RequestFirstToken)}
    seen = {event.request: event.t_ns for event in of(proxy, RequestFirstToken)}
    assert seen.keys() >= {1, 2} and 3 not in seen
    assert all(0 < seen[request] - made[request] < SLACK_NS for request in (1, 2))
    arrived = {event.request: event.t_ns for event in of(proxy, RequestQueued)}
    queued = {event.request: event.t_ns for event in of(server, RequestQueued)}
    assert all(0 < queued[request] - arrived[request] < SLACK_NS for request in (1, 2, 3))


def test_a_refusal_and_a_client_that_went_are_told_as_such(told) -> None:
    server, proxy, _ = told
    assert [event.reason for event in of(proxy, RequestAborted)] == [
        "error: status 400",
        "disconnect",
    ]
    assert {event.reason for event in of(server, RequestAborted)} == {"disconnect"}


def test_whose_session_it_is(told) -> None:
    _, proxy, code = told
    start = of(proxy, SessionStart)[-1]
    assert (start.model, start.max_model_len, start.device) == ("random:tiny", 2048, "")
    assert start.upstream.startswith("http://127.0.0.1:")
    assert code == 130
