"""Orders are for servers that were started to take them."""

from __future__ import annotations

import pytest

CAPTURE = "/v1/llmtop/capture"


async def test_without_control_nothing_is_ordered(client, core):
    response = await client.post(CAPTURE, json={"steps": 4})
    assert response.status_code == 403
    assert "--control" in response.json()["error"]["message"]
    assert core.captured == []


async def test_with_control_the_core_is_told(make_client, core):
    client = make_client(control=True)
    for body, steps in (({"steps": 4}, 4), ({}, 16)):
        response = await client.post(CAPTURE, json=body)
        assert (response.status_code, response.json()) == (202, {"steps": steps})
    assert (await client.post(CAPTURE)).status_code == 202
    assert core.captured == [4, 16, 16]


@pytest.mark.parametrize("content", [b'{"steps": 0}', b'{"steps": 513}', b'{"steps": "x"}', b"{"])
async def test_wrong_orders_are_refused_in_openais_shape(make_client, core, content):
    response = await make_client(control=True).post(CAPTURE, content=content)
    assert response.status_code == 400
    assert response.json()["error"]["message"]
    assert core.captured == []


async def test_an_order_needs_the_key_and_an_engine_that_is_ready(make_client, core, engine):
    locked = make_client(control=True, api_keys=("k",))
    assert (await locked.post(CAPTURE, json={})).status_code == 401
    engine.hush(True)
    assert (await make_client(control=True).post(CAPTURE, json={})).status_code == 503
    assert core.captured == []
