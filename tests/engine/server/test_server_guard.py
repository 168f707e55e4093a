from __future__ import annotations

import pytest

KEY = {"authorization": "Bearer sesame"}
PATHS = ("/v1/models", "/metrics", "/version", "/v1/llmtop/hello", "/v1/llmtop/events", "/nothing")


@pytest.mark.parametrize("path", PATHS)
async def test_with_a_key_every_path_but_health_wants_it(make_client, core, path):
    client = make_client(api_keys=("sesame", "other"))
    response = await client.get(path)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    "header",
    ["Bearer wrong", "Bearer ", "Bearer", "sesame", "Basic sesame", "Bearer sesame1", ""],
)
async def test_nothing_but_the_key_is_the_key(make_client, core, header):
    client = make_client(api_keys=("sesame",))
    response = await client.get("/v1/models", headers={"authorization": header})
    assert response.status_code == 401


async def test_each_of_several_keys_opens(make_client, core):
    client = make_client(api_keys=("other", "sesame"))
    assert (await client.get("/v1/models", headers=KEY)).status_code == 200
    lower = {"authorization": "bearer other"}
    assert (await client.get("/metrics", headers=lower)).status_code == 200
    assert (await client.get("/health")).status_code == 200


async def test_without_a_key_all_is_open(client):
    assert (await client.get("/v1/models")).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:80", "127.1.2.3:9"])
async def test_without_a_key_this_machine_is_served_by_its_names(client, host):
    headers = {"host": host, "origin": "http://localhost:3000"}
    assert (await client.get("/v1/models", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:8000"},
        {"host": "127.0.0.1.evil.example"},
        {"host": ""},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"host": "[::1"},
    ],
)
async def test_without_a_key_no_page_from_elsewhere_is_served(client, core, headers):
    response = await client.post("/v1/completions", json={"prompt": "a"}, headers=headers)
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "not_local"
    assert core.added == []


async def test_with_a_key_the_name_does_not_matter(make_client, core):
    headers = KEY | {"host": "gpu-box:8000", "origin": "https://page.example"}
    client = make_client(api_keys=("sesame",))
    assert (await client.get("/v1/models", headers=headers)).status_code == 200


async def test_a_body_over_the_limit_is_refused_by_its_stated_length(make_client, core):
    client = make_client(max_body_bytes=100)
    response = await client.post("/v1/completions", content=b" " * 101)
    assert response.status_code == 413
    assert "100 bytes" in response.json()["error"]["message"]


async def test_a_body_over_the_limit_is_refused_as_it_comes(make_client, core):
    async def body():
        for _ in range(11):
            yield b" " * 10

    client = make_client(max_body_bytes=100)
    response = await client.post("/v1/completions", content=body())
    assert response.status_code == 413
    assert core.added == []
