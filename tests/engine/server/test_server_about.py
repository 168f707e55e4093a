from __future__ import annotations

import pytest

from engine.errors import EngineError


async def test_health_follows_the_engine(client, engine):
    assert (await client.get("/health")).status_code == 200
    engine.fail(EngineError("gone"))
    response = await client.get("/health")
    assert (response.status_code, response.json()) == (503, {"status": "failed"})


async def test_while_the_core_is_silent_requests_are_to_come_again(client, engine):
    body = {"prompt": "a", "max_tokens": 1}
    engine.hush(True)
    health = await client.get("/health")
    assert (health.status_code, health.json()) == (503, {"status": "silent"})
    refused = await client.post("/v1/completions", json=body)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "does not answer" in refused.json()["error"]["message"]
    engine.hush(False)
    assert (await client.get("/health")).status_code == 200
    assert (await client.post("/v1/completions", json=body)).status_code == 200
    engine.fail(EngineError("gone"))
    engine.hush(False)  # a dead core stays dead
    assert engine.state == "failed"


async def test_before_the_engine_is_ready_requests_are_to_come_again(make_client):
    client = make_client()
    assert (await client.get("/health")).json() == {"status": "starting"}
    for path in ("/v1/completions", "/v1/chat/completions"):
        response = await client.post(path, json={"prompt": "a", "messages": []})
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert "loaded" in response.json()["error"]["message"]
    assert (await client.get("/v1/llmtop/hello")).status_code == 200


async def test_the_model_is_listed(client):
    models = (await client.get("/v1/models")).json()
    assert models["object"] == "list"
    card = models["data"][0]
    assert (card["id"], card["object"], card["max_model_len"]) == ("tiny", "model", 64)
    assert (await client.get("/v1/models/tiny")).json() == card
    assert (await client.get("/v1/models/other")).status_code == 404


async def test_version_and_metrics(client):
    assert (await client.get("/version")).json() == {"version": "1.2.3"}
    page = await client.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert page.text == "a 1\n"


async def test_tokenize_and_back(client):
    answer = (await client.post("/tokenize", json={"prompt": "hé"})).json()
    assert answer == {"count": 3, "max_model_len": 64, "tokens": [104, 195, 169]}
    back = await client.post("/detokenize", json={"tokens": answer["tokens"]})
    assert back.json() == {"prompt": "hé"}


async def test_tokenize_takes_a_conversation_and_names_pieces(client):
    messages = [{"role": "user", "content": "x"}]
    body = {"messages": messages, "return_token_strs": True, "add_generation_prompt": False}
    answer = (await client.post("/tokenize", json=body)).json()
    assert "".join(answer["token_strs"]) == "user: x\n"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": 1}, "prompt"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [300]}, "tokens"),
        ("/detokenize", {"tokens": ["a"]}, "tokens[0]"),
    ],
)
async def test_bad_bodies_are_refused_by_name(client, path, body, param):
    response = await client.post(path, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


async def test_tokenizer_info_names_the_end_of_text(client):
    assert (await client.get("/tokenizer_info")).json() == {"eos_token": "<eos>"}


async def test_unknown_paths_and_methods_answer_in_the_same_shape(client):
    missing = await client.get("/v1/embeddings")
    assert missing.status_code == 404
    assert missing.json()["error"]["message"] == "There is no /v1/embeddings"
    wrong = await client.get("/v1/completions")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert "GET" in wrong.json()["error"]["message"]


async def test_a_bug_answers_in_the_same_shape_and_tells_no_secret(make_client, core, monkeypatch):
    def broken(self, text, special):
        raise RuntimeError("secret prompt")

    monkeypatch.setattr("engine.models.tokenizer.Tokenizer.encode", broken)
    response = await make_client().post("/v1/completions", json={"prompt": "a"})
    assert response.status_code == 500
    assert response.json()["error"]["type"] == "internal_error"
    assert "secret" not in response.text
