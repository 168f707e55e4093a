"""One real server, seen by the clients that people use."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import time
from urllib.parse import urlsplit

import pytest

from engine.config import EngineConfig, SchedulerConfig
from llmtop.sources.sse import FrameReader
from profiler.events import RequestFinished, Step, decode_event
from profiler.session.reader import SessionReader
from profiler.state import SessionState

# Eight samples, so that it takes seconds on any machine.
LONG = {"prompt": "hello", "max_tokens": 1900, "ignore_eos": True, "n": 8}


@pytest.fixture(scope="module")
def server(start_server):
    return start_server(control=True).wait_until_ready()


@pytest.fixture(scope="module")
def client(server, openai):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def state_of(server) -> SessionState:
    """The server's own state, by the keyframe that begins the stream."""
    with server.client.stream("GET", "/v1/llmtop/events") as response:
        frames = FrameReader()
        for chunk in response.iter_raw():
            for frame in frames.feed(chunk):
                assert frame.event == "keyframe"
                return SessionState.restore(base64.b64decode(frame.data))
    raise AssertionError("the stream ended")


def rules_found(server) -> list[str]:
    return [finding.rule for finding in state_of(server).findings.all()]


def wait_for(condition, within_s=30.0):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come true in time")


def test_openai_s_client_lists_completes_and_chats(client):
    model = client.models.list().data[0].id
    assert model == "random:tiny"
    answer = client.completions.create(model=model, prompt="hi", max_tokens=5, temperature=0)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 5
    messages = [{"role": "user", "content": "hi"}]
    chat = client.chat.completions.create(
        model=model, messages=messages, max_completion_tokens=4, logprobs=True, top_logprobs=3
    )
    assert chat.choices[0].message.role == "assistant"
    assert len(chat.choices[0].logprobs.content) == 4
    assert len(chat.choices[0].logprobs.content[0].top_logprobs) == 3


def test_openai_s_client_streams_what_it_completes(client):
    request = {"model": "random:tiny", "prompt": "hi", "max_tokens": 20, "temperature": 0}
    whole = client.completions.create(**request).choices[0].text
    options = {"include_usage": True}
    parts = list(client.completions.create(**request, stream=True, stream_options=options))
    assert "".join(part.choices[0].text for part in parts[:-1]) == whole
    assert parts[-1].choices == [] and parts[-1].usage.completion_tokens == 20
    messages = [{"role": "user", "content": "hi"}]
    deltas = client.chat.completions.create(
        model="random:tiny", messages=messages, max_tokens=8, stream=True
    )
    chunks = [chunk.choices[0] for chunk in deltas]
    assert chunks[0].delta.role == "assistant"
    assert chunks[-1].finish_reason == "length"


def test_openai_s_client_raises_its_own_errors(client, openai):
    with pytest.raises(openai.BadRequestError) as bad:
        client.completions.create(model="random:tiny", prompt="hi", temperature=-1)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="other", prompt="hi")
    with pytest.raises(openai.BadRequestError, match="2048"):
        client.completions.create(model="random:tiny", prompt="a" * 3000)


def test_the_same_seed_gives_the_same_samples(client):
    request = {"model": "random:tiny", "prompt": "hi", "max_tokens": 12, "n": 3, "seed": 5}
    one, two = (client.completions.create(**request) for _ in range(2))
    texts = [choice.text for choice in one.choices]
    assert [choice.text for choice in two.choices] == texts
    assert len(set(texts)) == 3


def test_lm_eval_s_request_scores_each_prompt_token(client):
    prompts = [[1, 2, 3, 4], [9, 8, 7]]
    answer = client.completions.create(
        model="random:tiny",
        prompt=prompts,
        max_tokens=1,
        temperature=0,
        logprobs=1,
        seed=1234,
        echo=True,
    )
    for prompt, choice in zip(prompts, answer.choices, strict=True):
        told = choice.logprobs
        assert len(told.token_logprobs) == len(prompt) + 1
        assert told.token_logprobs[0] is None and told.top_logprobs[0] is None
        assert told.token_logprobs[-1] == max(told.top_logprobs[-1].values())


def test_a_repeated_prompt_is_served_from_the_cache(client):
    request = {"model": "random:tiny", "prompt": "cached " * 40, "max_tokens": 2}
    client.completions.create(**request)
    usage = client.completions.create(**request).usage
    assert usage.prompt_tokens_details.cached_tokens >= usage.prompt_tokens - 16


def test_a_client_that_leaves_a_stream_frees_its_pages(server):
    with server.client.stream("POST", "/v1/completions", json={**LONG, "stream": True}) as answer:
        # Held: httpx closes the connection with an iterator that nobody holds.
        chunks = answer.iter_raw()
        next(chunks)
        assert state_of(server).pages.used > 0
    wait_for(lambda: state_of(server).pages.used == 0)
    assert state_of(server).requests.done[-1].finish_reason == "disconnect"


def test_a_client_that_leaves_while_it_waits_frees_its_pages(server):
    body = json.dumps(LONG).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}"
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as line:
        line.sendall(head.encode() + b"\r\n\r\n" + body)
        wait_for(lambda: state_of(server).pages.used > 0)
    wait_for(lambda: state_of(server).pages.used == 0)
    assert state_of(server).requests.done[-1].finish_reason == "disconnect"


def test_a_client_that_does_not_read_is_found(server):
    body = json.dumps(LONG | {"stream": True, "logprobs": 5}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}"
    address = urlsplit(server.url)
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect((address.hostname, address.port))
        line.sendall(head.encode() + b"\r\n\r\n" + body)
        wait_for(lambda: "slow_client" in rules_found(server))
        told = state_of(server).clients.told[-1]
        assert told.t_ns - told.since_ns >= 1e9
    wait_for(lambda: state_of(server).pages.used == 0)


def test_the_stream_tells_what_a_request_went_through(server):
    with server.client.stream("GET", "/v1/llmtop/events") as response:
        frames, events = FrameReader(), []
        seq = 0
        body = {"prompt": "hi", "max_tokens": 3, "ignore_eos": True}
        for chunk in response.iter_raw():
            for frame in frames.feed(chunk):
                if frame.event == "keyframe":
                    seq = int(frame.id)
                    assert server.client.post("/v1/completions", json=body).status_code == 200
                    continue
                assert int(frame.id) == seq + 1
                seq = int(frame.id)
                events.append(decode_event(frame.data))
            if any(isinstance(event, RequestFinished) for event in events):
                break
    number = next(event.request for event in events if isinstance(event, RequestFinished))
    steps = [event for event in events if isinstance(event, Step)]
    tokens = sum(row.new_tokens for step in steps for row in step.rows if row.request == number)
    assert tokens == 3


def test_a_reader_resumes_where_it_was(server):
    def first_frames(headers, count):
        frames, reader = [], FrameReader()
        with server.client.stream("GET", "/v1/llmtop/events", headers=headers) as response:
            for chunk in response.iter_raw():
                frames += reader.feed(chunk)
                if len(frames) >= count:
                    return frames

    keyframe = first_frames({}, 1)[0]
    again = first_frames({"Last-Event-ID": keyframe.id}, 1)
    assert again[0].event != "keyframe"
    assert int(again[0].id) == int(keyframe.id) + 1


def test_metrics_have_vllm_s_names(server):
    page = server.client.get("/metrics").text
    assert "vllm:generation_tokens_total" in page
    assert 'model_name="random:tiny"' in page


@pytest.fixture(scope="module")
def strict(start_server):
    """A server with a key and a short queue."""
    scheduler = SchedulerConfig(max_num_seqs=1, max_num_queued_reqs=1)
    engine = EngineConfig(model="random:tiny", device="cpu", num_threads=1, scheduler=scheduler)
    server = start_server(engine=engine, api_key="sesame").wait_until_ready()
    server.client.headers["authorization"] = "Bearer sesame"
    return server


def test_a_full_queue_answers_503_and_when_to_come_again(strict):
    response = strict.client.post("/v1/completions", json=LONG)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["error"]["code"] == "queue_full"
    wait_for(lambda: not state_of(strict).requests.live)
    assert state_of(strict).requests.num_rejected >= 1
    assert strict.client.post("/v1/completions", json={"prompt": "a"}).status_code == 200


def test_two_servers_run_side_by_side_and_the_key_is_one_s_own(strict, server):
    stranger = {"authorization": "Bearer other"}
    for path in ("/metrics", "/v1/models", "/v1/llmtop/events"):
        assert strict.client.get(path, headers=stranger).status_code == 401
    hellos = [s.client.get("/v1/llmtop/hello").json() for s in (server, strict)]
    assert hellos[0]["session"] != hellos[1]["session"]
    assert server.session != strict.session


def test_captured_kernels_reach_the_stream_and_the_recording(server):
    before = state_of(server).steps.last
    response = server.client.post("/v1/llmtop/capture", json={"steps": 3})
    assert response.status_code == 202
    body = {"prompt": "hi", "max_tokens": 8, "ignore_eos": True}
    assert server.client.post("/v1/completions", json=body).status_code == 200
    wait_for(lambda: state_of(server).kernels is not None)
    window = state_of(server).kernels
    assert window.num_steps == 3
    assert before is None or window.first_step > before.step
    assert {"attend", "normalize"} <= {row.name for row in window.kernels}
    wait_for(lambda: recorded_window(server.session) == window)


def recorded_window(path):
    with contextlib.closing(SessionReader(path)) as reader:
        return reader.state_at(reader.end_ns).kernels
