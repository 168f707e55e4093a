from __future__ import annotations

import json

import pytest

URL = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hi"}]
PROMPT = b"user: hi\nassistant:"  # by the plain template of models without one


async def ask(client, **body):
    response = await client.post(URL, json={"messages": HELLO, **body})
    assert response.status_code == 200, response.text
    return response.json()


def chunks(response):
    events = [line[6:] for line in response.text.split("\n") if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


async def test_a_whole_answer_has_openai_s_fields(client, core):
    answer = await ask(client, model="tiny", max_tokens=4)
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    choice = answer["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "hell", "refusal": None}
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "length", None)
    assert answer["usage"]["prompt_tokens"] == len(PROMPT)
    assert bytes(core.added[0].prompt_token_ids) == PROMPT


async def test_the_role_comes_with_the_first_token_and_not_before(client):
    parts = chunks(
        await client.post(URL, json={"messages": HELLO, "max_tokens": 3, "stream": True})
    )
    deltas = [part["choices"][0]["delta"] for part in parts]
    assert deltas == [
        {"role": "assistant", "content": "h"},
        {"content": "e"},
        {"content": "l"},
    ]
    assert {part["object"] for part in parts} == {"chat.completion.chunk"}
    assert [part["choices"][0]["finish_reason"] for part in parts] == [None, None, "length"]


async def test_include_usage_adds_one_last_chunk(client):
    body = {"messages": HELLO, "max_completion_tokens": 2, "stream": True}
    *_, last = chunks(
        await client.post(URL, json={**body, "stream_options": {"include_usage": True}})
    )
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 2


async def test_without_a_bound_the_answer_may_fill_the_context(client, core):
    await ask(client)
    assert core.added[0].params.max_tokens is None
    await ask(client, max_tokens=9, max_completion_tokens=5)
    assert core.added[1].params.max_tokens == 5


async def test_content_may_be_a_list_of_texts(client, core):
    parts = [{"type": "text", "text": "h"}, {"type": "text", "text": "i"}]
    await ask(client, messages=[{"role": "user", "content": parts}])
    assert b"h\ni" in bytes(core.added[0].prompt_token_ids)


async def test_logprobs_name_token_bytes_and_the_likeliest(client):
    answer = await ask(client, logprobs=True, top_logprobs=2, max_tokens=1)
    assert answer["choices"][0]["logprobs"]["content"] == [
        {
            "token": "h",
            "logprob": -1.04,
            "bytes": [104],
            "top_logprobs": [
                {"token": "h", "logprob": -1.04, "bytes": [104]},
                {"token": "i", "logprob": -1.05, "bytes": [105]},
            ],
        }
    ]


async def test_streamed_logprobs_come_with_their_token(client):
    body = {"messages": HELLO, "max_tokens": 2, "stream": True, "logprobs": True}
    parts = chunks(await client.post(URL, json=body))
    told = [part["choices"][0]["logprobs"]["content"][0]["token"] for part in parts]
    assert told == ["h", "e"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"content": "hi"}]}, "role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"echo": True}, "echo"),
    ],
)
async def test_a_bad_field_is_refused_by_name(client, core, body, param):
    response = await client.post(URL, json={"messages": HELLO, **body})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert core.added == []


async def test_tools_that_may_not_be_used_are_no_reason_to_refuse(client):
    await ask(client, tools=[{"type": "function"}], tool_choice="none")
    await ask(client, response_format={"type": "text"})


async def test_a_conversation_that_is_too_long_is_refused_with_both_lengths(client):
    body = {"messages": [{"role": "user", "content": "a" * 64}]}
    response = await client.post(URL, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"
