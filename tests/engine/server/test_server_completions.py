from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

URL = "/v1/completions"


def chunks(response: httpx.Response) -> list[dict[str, Any]]:
    """The JSON of each event of a stream that must end with [DONE]."""
    events = [line[6:] for line in response.text.split("\n") if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


async def ask(client: httpx.AsyncClient, **body: Any) -> Any:
    response = await client.post(URL, json={"prompt": "hi", **body})
    assert response.status_code == 200, response.text
    return response.json()


async def refused(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.post(URL, json={"prompt": "hi", **body})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return error  # type: ignore[no-any-return]


async def test_a_whole_answer_has_openai_s_fields(client):
    answer = await ask(client, model="tiny", max_tokens=4)
    assert answer["object"] == "text_completion"
    assert answer["id"].startswith("cmpl-")
    assert answer["model"] == "tiny"
    choice = answer["choices"][0]
    assert (choice["index"], choice["text"], choice["finish_reason"]) == (0, "hell", "length")
    assert choice["logprobs"] is None
    assert answer["usage"] == {
        "prompt_tokens": 2,
        "completion_tokens": 4,
        "total_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 3},
    }


async def test_a_stream_adds_up_to_the_whole_answer(client):
    body = {"prompt": "hi", "max_tokens": 5, "stream": True}
    response = await client.post(URL, json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    parts = chunks(response)
    assert "".join(p["choices"][0]["text"] for p in parts) == "hello"
    assert [p["choices"][0]["finish_reason"] for p in parts] == [None] * 4 + ["length"]
    assert {p["object"] for p in parts} == {"text_completion"}
    assert len({p["id"] for p in parts}) == 1
    assert all("usage" not in p for p in parts)


async def test_include_usage_adds_one_last_chunk_without_choices(client):
    body = {
        "prompt": "hi",
        "max_tokens": 2,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    *parts, last = chunks(await client.post(URL, json=body))
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == 2
    assert last["usage"]["completion_tokens"] == 2
    assert all(p["usage"] is None for p in parts)


async def test_continuous_usage_counts_up_chunk_by_chunk(client):
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"prompt": "hi", "max_tokens": 3, "stream": True, "stream_options": options}
    counts = [p["usage"]["completion_tokens"] for p in chunks(await client.post(URL, json=body))]
    assert counts == [1, 2, 3, 3]


async def test_max_tokens_is_16_unless_given(client, core):
    await ask(client)
    assert core.added[0].params.max_tokens == 16


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("ab", [(97, 98)]),
        ([97, 98], [(97, 98)]),
        (["a", "bc"], [(97,), (98, 99)]),
        ([[97], [98, 99]], [(97,), (98, 99)]),
    ],
)
async def test_a_prompt_has_four_forms(client, core, prompt, expected):
    answer = await ask(client, prompt=prompt)
    assert [request.prompt_token_ids for request in core.added] == expected
    assert [choice["index"] for choice in answer["choices"]] == list(range(len(expected)))


@pytest.mark.parametrize("prompt", [[], [[]], "", ["a", [1]], [1, "a"], [[1.5]], 7, None])
async def test_other_prompts_are_refused_by_name(client, prompt):
    error = await refused(client, prompt=prompt)
    assert error["param"].startswith("prompt")


async def test_one_request_asks_for_a_bounded_number_of_samples(client, core):
    error = await refused(client, prompt=["a"] * 9, n=128)
    assert error["param"] == "prompt" and "1024" in error["message"]
    assert core.added == []


async def test_n_samples_of_each_prompt_come_in_order(client, core):
    answer = await ask(client, prompt=["a", "bc"], n=2, seed=7, max_tokens=1)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert [len(request.prompt_token_ids) for request in core.added] == [1, 1, 2, 2]
    assert [request.params.seed for request in core.added] == [7, 8, 7, 8]
    assert answer["usage"]["prompt_tokens"] == 3
    assert answer["usage"]["completion_tokens"] == 4


async def test_echo_with_logprobs_is_what_lm_eval_needs(client, core):
    body = {"prompt": [[97, 98, 99]], "echo": True, "logprobs": 1, "max_tokens": 1}
    choice = (await ask(client, **body, temperature=0, seed=1234))["choices"][0]
    assert choice["text"] == "abch"
    logprobs = choice["logprobs"]
    assert logprobs["tokens"] == ["a", "b", "c", "h"]
    assert logprobs["token_logprobs"] == [None, -0.98, -0.99, -1.04]
    assert logprobs["top_logprobs"] == [None, {"b": -0.98}, {"c": -0.99}, {"h": -1.04}]
    assert logprobs["text_offset"] == [0, 1, 2, 3]


async def test_echo_may_generate_nothing(client):
    answer = await ask(client, prompt="abc", echo=True, max_tokens=0, logprobs=0)
    choice = answer["choices"][0]
    assert choice["text"] == "abc"
    assert choice["logprobs"]["token_logprobs"] == [None, -0.98, -0.99]
    assert answer["usage"]["completion_tokens"] == 0
    assert (await refused(client, max_tokens=0))["param"] == "max_tokens"


async def test_echoed_prompts_of_samples_all_have_their_logprobs(client):
    answer = await ask(client, prompt="ab", echo=True, max_tokens=1, logprobs=0, n=2)
    told = [choice["logprobs"]["token_logprobs"] for choice in answer["choices"]]
    assert told == [[None, -0.98, -1.04]] * 2


async def test_streamed_logprobs_and_offsets_go_on_from_chunk_to_chunk(client):
    body = {"prompt": "ab", "echo": True, "max_tokens": 3, "logprobs": 2, "stream": True}
    parts = [p["choices"][0] for p in chunks(await client.post(URL, json=body))]
    assert [part["text"] for part in parts] == ["abh", "e", "l"]
    offsets = [part["logprobs"]["text_offset"] for part in parts]
    assert offsets == [[0, 1, 2], [3], [4]]
    assert parts[1]["logprobs"]["top_logprobs"] == [{"e": -1.01, "f": -1.02}]


async def test_half_a_character_is_told_as_bytes_in_logprobs_and_held_back_in_text(client, core):
    core.reply = "é".encode()
    body = {"prompt": "a", "max_tokens": 2, "stream": True, "logprobs": 0}
    parts = [p["choices"][0] for p in chunks(await client.post(URL, json=body))]
    assert [part["text"] for part in parts] == ["", "é"]
    assert parts[0]["logprobs"]["tokens"] == ["bytes:\\xc3"]
    plain = chunks(await client.post(URL, json={"prompt": "a", "max_tokens": 2, "stream": True}))
    assert [p["choices"][0]["text"] for p in plain] == ["é"]


async def test_a_stop_string_ends_the_text_and_tells_the_core(client, core):
    choice = (await ask(client, stop=["l", "zz"]))["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("he", "stop")
    assert choice["stop_reason"] == "l"
    assert core.finished == [(1, "stop")]
    assert core.aborted == []


async def test_vllm_s_extras_reach_the_engine(client, core):
    await ask(
        client,
        top_k=-1,
        min_p=0.1,
        repetition_penalty=1.2,
        ignore_eos=True,
        min_tokens=2,
        stop_token_ids=[9],
        include_stop_str_in_output=True,
        skip_special_tokens=False,
        logit_bias={"65": -100},
        priority=3,
        unknown_field={"is": "ignored"},
    )
    request = core.added[0]
    params = request.params
    assert (params.top_k, params.min_p, params.repetition_penalty) == (0, 0.1, 1.2)
    assert (params.ignore_eos, params.min_tokens, params.stop_token_ids) == (True, 2, (9,))
    assert params.include_stop_str_in_output and not params.skip_special_tokens
    assert params.logit_bias == {65: -100.0}
    assert request.priority == 3
    assert request.eos_token_ids == (0,)


async def test_null_means_not_given(client, core):
    fields = ("temperature", "n", "seed", "stop", "logprobs", "echo", "logit_bias", "suffix")
    await ask(client, **dict.fromkeys(fields))
    assert core.added[0].params.temperature == 1.0


async def test_the_client_may_name_its_request(client, core):
    await client.post(URL, json={"prompt": "a"}, headers={"x-request-id": 'bench;[1m-7 "'})
    await ask(client, request_id="mine")
    assert core.added[0].name == "cmpl-bench_1m-7_"
    assert core.added[1].name == "cmpl-mine"


async def test_token_ids_can_be_asked_for(client):
    answer = await ask(client, return_token_ids=True, max_tokens=2)
    choice = answer["choices"][0]
    assert choice["token_ids"] == [104, 101]
    assert choice["prompt_token_ids"] == [104, 105]


async def test_prompt_logprobs_can_be_asked_for(client):
    choice = (await ask(client, prompt="ab", prompt_logprobs=1, max_tokens=1))["choices"][0]
    assert choice["prompt_logprobs"] == [
        None,
        {"98": {"logprob": -0.98, "rank": 1, "decoded_token": "b"}},
    ]


async def test_truncation_keeps_the_end(client, core):
    await ask(client, prompt="abcdef", truncate_prompt_tokens=2)
    assert core.added[0].prompt_token_ids == (101, 102)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1),
        ("temperature", "hot"),
        ("temperature", 1e46),
        ("top_p", 0),
        ("top_p", 1.5),
        ("top_k", -2),
        ("top_k", 1 << 63),
        ("min_p", 2),
        ("n", 0),
        ("n", 1000),
        ("max_tokens", -1),
        ("max_tokens", 1.5),
        ("presence_penalty", 3),
        ("frequency_penalty", -3),
        ("repetition_penalty", 0),
        ("logprobs", 21),
        ("logprobs", True),
        ("seed", 1 << 64),
        ("stop", 7),
        ("stop", ""),
        ("stop_token_ids", [300]),
        ("logit_bias", {"5": 101}),
        ("logit_bias", {"300": 1}),
        ("logit_bias", {"x": 1}),
        ("min_tokens", 17),
        ("best_of", 2),
        ("suffix", "end"),
        ("stream_options", {"include_usage": True}),
        ("structured_outputs", {"json": {}}),
        ("priority", "high"),
        ("priority", 1 << 63),
        ("prompt", [-1]),
        ("prompt", [[1], [-2]]),
        ("truncate_prompt_tokens", -2),
    ],
)
async def test_a_bad_field_is_refused_by_name(client, core, field, value):
    error = await refused(client, **{field: value})
    assert error["param"].startswith(field)
    assert core.added == []


async def test_a_missing_prompt_is_named(client):
    response = await client.post(URL, json={})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "prompt"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"prompt": "\\ud800"}'])
async def test_a_body_that_is_no_json_object_is_refused(client, body):
    response = await client.post(URL, content=body)
    assert response.status_code == 400
    assert response.json()["error"]["message"]


async def test_a_prompt_that_is_too_long_is_refused_with_both_lengths(client):
    error = await refused(client, prompt="a" * 64)
    assert "64 tokens" in error["message"] and "has 64" in error["message"]
    assert (error["param"], error["code"]) == ("prompt", "context_length_exceeded")
    error = await refused(client, prompt="a" * 60, max_tokens=5)
    assert "65 were requested (60 in the prompt, 5 to generate)" in error["message"]
    assert error["param"] == "max_tokens"
    await ask(client, prompt="a" * 60, max_tokens=4)


async def test_without_max_tokens_a_long_prompt_gets_what_room_there_is(client, core):
    await ask(client, prompt="a" * 60)
    assert core.added[0].params.max_tokens == 16  # the core cuts it to the room


async def test_another_model_does_not_exist(client):
    response = await client.post(URL, json={"model": "gpt-4", "prompt": "hi"})
    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    await ask(client, model="alias")
