"""The requests that other tools send, field by field as they were seen to, and what each reads."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
USAGE = {"include_usage": True}

VLLM_BENCH = {
    "model": "tiny",
    "prompt": " Infrared carts",
    "repetition_penalty": 1.0,
    "max_tokens": 3,
    "logprobs": None,
    "stream": True,
    "stream_options": USAGE,
    "ignore_eos": True,
}
VLLM_BENCH_CHAT = {
    "model": "tiny",
    "messages": [{"role": "user", "content": [{"type": "text", "text": " Infrared carts"}]}],
    "max_completion_tokens": 3,
    "stream": True,
    "stream_options": USAGE,
    "ignore_eos": True,
}
GUIDELLM = {
    "model": "tiny",
    "stream": True,
    "stream_options": {**USAGE, "continuous_usage_stats": True},
    "max_tokens": 3,
    "ignore_eos": True,
    "prompt": "1 1 m0 He trip theory",
}
GUIDELLM_CHAT = {
    "model": "tiny",
    "stream": True,
    "stream_options": {**USAGE, "continuous_usage_stats": True},
    "max_completion_tokens": 3,
    "ignore_eos": True,
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "1 1 m0 He trip theory daughter"}]}
    ],
}
AIPERF = {
    "prompt": " grace and love for love allow",
    "model": "tiny",
    "stream": True,
    "max_tokens": 3,
    "ignore_eos": True,
    "stream_options": USAGE,
}
AIPERF_CHAT = {
    "messages": [{"role": "user", "content": " get I mean and so do they"}],
    "model": "tiny",
    "stream": True,
    "max_completion_tokens": 3,
    "ignore_eos": True,
    "stream_options": USAGE,
}


def chunks_of(response: httpx.Response) -> list[dict[str, Any]]:
    *events, last = [line[6:] for line in response.text.split("\n") if line.startswith("data: ")]
    assert last == "[DONE]"
    return [json.loads(event) for event in events]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(COMPLETIONS, VLLM_BENCH, id="vllm bench serve"),
        pytest.param(CHAT, VLLM_BENCH_CHAT, id="vllm bench serve, chat"),
        pytest.param(COMPLETIONS, GUIDELLM, id="guidellm"),
        pytest.param(CHAT, GUIDELLM_CHAT, id="guidellm, chat"),
        pytest.param(COMPLETIONS, AIPERF, id="aiperf"),
        pytest.param(CHAT, AIPERF_CHAT, id="aiperf, chat"),
    ],
)
async def test_load_generators_get_the_stream_they_read(client, core, path, body):
    headers = {"x-request-id": "bench-380678ba-0", "accept": "text/event-stream"}
    response = await client.post(path, json=body, headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, last = chunks_of(response)
    kind = "chat.completion.chunk" if path == CHAT else "text_completion"
    assert {chunk["object"] for chunk in (*chunks, last)} == {kind}  # aiperf ignores all others
    assert {chunk["model"] for chunk in chunks} == {"tiny"}
    choices = [chunk["choices"][0] for chunk in chunks]
    texts = [c["delta"].get("content") if path == CHAT else c["text"] for c in choices]
    assert "".join(filter(None, texts)) == "hel"
    assert choices[-1]["finish_reason"] == "length"
    assert last["choices"] == [] and last["usage"]["completion_tokens"] == 3
    assert last["usage"]["prompt_tokens"] == len(core.added[0].prompt_token_ids)
    assert core.added[0].params.ignore_eos
    assert core.added[0].name.endswith("bench-380678ba-0")
    if body["stream_options"].get("continuous_usage_stats"):
        counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
        assert counts == sorted(counts) and counts[-1] == 3


async def test_lm_eval_scores_a_batch_of_token_lists(client, core):
    core.reply = b"x"
    body = {
        "model": "tiny",
        "prompt": [[72, 101, 108], [72, 105]],
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": 1,
        "seed": 1234,
        "echo": True,
    }
    answer = (await client.post(COMPLETIONS, json=body)).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    for prompt, choice in zip(body["prompt"], answer["choices"], strict=True):
        told = choice["logprobs"]
        assert told["token_logprobs"] == [None, *(-t / 100 for t in prompt[1:]), -ord("x") / 100]
        assert told["top_logprobs"][0] is None
        for own, top in zip(told["token_logprobs"][1:], told["top_logprobs"][1:], strict=True):
            assert max(top.values()) == own  # so lm-eval finds each token to be the greedy one


async def test_lm_eval_generates_until_a_stop(client, core):
    core.reply = b"It is so. And"
    body = {
        "prompt": [[72, 101, 108], [72, 105]],
        "model": "tiny",
        "max_tokens": 12,
        "temperature": 0.0,
        "stop": ["\n", "."],
        "seed": 1234,
    }
    answer = (await client.post(COMPLETIONS, json=body)).json()
    assert [choice["text"] for choice in answer["choices"]] == ["It is so", "It is so"]


async def test_the_tokenizers_that_are_asked_over_http(client):
    assert "eos_token" in (await client.get("/tokenizer_info")).json()
    body = {"prompt": "test", "add_special_tokens": False}
    for fields in (body, {**body, "model": "tiny"}):  # lm-eval and vLLM's bench
        assert (await client.post("/tokenize", json=fields)).json()["tokens"] == list(b"test")


async def test_metrics_are_looked_for_with_head_first(client):
    """As aiperf does to find what it can scrape."""
    looked = await client.head("/metrics")
    assert looked.status_code == 200
    assert looked.headers["content-type"].startswith("text/plain; version=0.0.4")
