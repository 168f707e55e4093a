"""Orders are for servers that were started to take them."""

from __future__ import annotations

import pytest

from engine.server.controlling import OWNER_HEADER, Control

EVERYONE = Control(everyone=True)
OBSERVER = "/v1/llmtop/observer"
CAPTURE = "/v1/llmtop/capture"


async def test_without_control_nothing_is_ordered(client, core):
    response = await client.post(CAPTURE, json={"steps": 4})
    assert response.status_code == 403
    assert "--control" in response.json()["error"]["message"]
    assert core.captured == []


async def test_with_control_the_core_is_told(make_client, core):
    client = make_client(control=EVERYONE)
    for body, steps in (({"steps": 4}, 4), ({}, 16)):
        response = await client.post(CAPTURE, json=body)
        assert (response.status_code, response.json()) == (202, {"steps": steps})
    assert (await client.post(CAPTURE)).status_code == 202
    assert core.captured == [4, 16, 16]


@pytest.mark.parametrize("content", [b'{"steps": 0}', b'{"steps": 513}', b'{"steps": "x"}', b"{"])
async def test_wrong_orders_are_refused_in_openais_shape(make_client, core, content):
    response = await make_client(control=EVERYONE).post(CAPTURE, content=content)
    assert response.status_code == 400
    assert response.json()["error"]["message"]
    assert core.captured == []


async def test_an_order_needs_the_key_and_an_engine_that_is_ready(make_client, core, engine):
    locked = make_client(control=EVERYONE, api_keys=("k",))
    assert (await locked.post(CAPTURE, json={})).status_code == 401
    engine.hush(True)
    assert (await make_client(control=EVERYONE).post(CAPTURE, json={})).status_code == 503
    assert core.captured == []


async def test_the_cost_of_observing_is_measured_for_everyone_or_the_owner(make_client, core):
    assert (await make_client(control=EVERYONE).post(OBSERVER, json={})).status_code == 202
    owned = make_client(control=Control(owner_key="key"))
    assert (await owned.post(OBSERVER, headers={OWNER_HEADER: "key"})).status_code == 202
    assert core.num_measured == 2


@pytest.mark.parametrize(
    ("control", "shown", "status"),
    [
        (Control(), "", 403),
        (Control(owner_key="key"), "", 403),
        (Control(owner_key="key"), "kex", 403),
        (Control(everyone=True, observe=False), "", 409),
    ],
)
async def test_nobody_else_has_it_measured(make_client, core, control, shown, status):
    response = await make_client(control=control).post(OBSERVER, headers={OWNER_HEADER: shown})
    assert response.status_code == status
    assert response.json()["error"]["message"]
    assert core.num_measured == 0


async def test_an_owner_has_no_kernels_captured(make_client, core):
    client = make_client(control=Control(owner_key="key"))
    response = await client.post(CAPTURE, json={}, headers={OWNER_HEADER: "key"})
    assert response.status_code == 403
