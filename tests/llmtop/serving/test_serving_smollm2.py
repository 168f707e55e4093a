"""The default model, real weights, through the server."""

from __future__ import annotations

import pytest

from engine.config import EngineConfig

FRANCE = "The capital of France is"


@pytest.fixture(scope="module")
def server(smollm2, start_server):
    # In bf16 the first token of the chat is a tie of two.
    engine = EngineConfig(model=str(smollm2.path), device="cpu", dtype="float32", num_threads=1)
    return start_server(engine=engine, served_model_name="smol").wait_until_ready()


@pytest.fixture(scope="module")
def client(server, openai):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_it_knows_the_capital_of_france_whole_and_streamed(client):
    request = {"model": "smol", "prompt": FRANCE, "max_tokens": 12, "temperature": 0}
    whole = client.completions.create(**request)
    assert whole.choices[0].text.startswith(" Paris")
    assert whole.model == "smol"
    parts = client.completions.create(**request, stream=True)
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text


def test_it_chats_with_its_own_template(client, server):
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    chat = client.chat.completions.create(
        model="smol", messages=messages, max_completion_tokens=24, temperature=0
    )
    assert "Paris" in chat.choices[0].message.content
    counted = server.client.post("/tokenize", json={"messages": messages}).json()["count"]
    assert chat.usage.prompt_tokens == counted > 10


def test_a_stop_string_is_cut_off_wherever_tokens_end(client):
    request = {"model": "smol", "prompt": FRANCE, "max_tokens": 12, "temperature": 0}
    choice = client.completions.create(**request, stop=["ris."]).choices[0]
    assert (choice.text, choice.finish_reason) == (" Pa", "stop")


def test_scores_of_a_text_are_those_of_generating_it(client):
    request = {"model": "smol", "prompt": FRANCE, "max_tokens": 6, "temperature": 0}
    made = client.completions.create(**request, logprobs=1, extra_body={"return_token_ids": True})
    choice = made.choices[0]
    ids = choice.prompt_token_ids + choice.token_ids
    scored = client.completions.create(
        model="smol", prompt=[ids], max_tokens=0, echo=True, logprobs=1
    ).choices[0]
    assert scored.text == FRANCE + choice.text
    told = scored.logprobs.token_logprobs[-6:]
    assert told == pytest.approx(choice.logprobs.token_logprobs, abs=2e-3)
    best = [max(top.values()) for top in scored.logprobs.top_logprobs[-6:]]
    assert best == pytest.approx(told, abs=2e-3)


def test_text_survives_the_way_to_tokens_and_back(server):
    text = "Déjà vu: naïve 漢字 🙂\n\ttabs"
    tokens = server.client.post("/tokenize", json={"prompt": text}).json()["tokens"]
    assert server.client.post("/detokenize", json={"tokens": tokens}).json() == {"prompt": text}
