"""Orders to a server that takes them (`llmtop serve --control`)."""

from __future__ import annotations

from typing import Final

import httpx

from llmtop.peer import OWNER_HEADER, key_headers, root_of
from llmtop.sanitize import clean_line
from llmtop.trust import trusted

_TIMEOUT_S: Final = 5.0
MAX_TEXT: Final = 200


async def order_capture(base_url: str, api_key: str | None, num_steps: int) -> str:
    """Has the server capture the kernels of its next steps; "" if it will, else why not."""
    return await _order(base_url, "capture", key_headers(api_key), {"steps": num_steps})


async def order_observer(base_url: str, api_key: str | None, owner_key: str) -> str:
    """Has the server measure what observing costs; "" if it will, else why not."""
    headers = key_headers(api_key)
    if owner_key:
        headers[OWNER_HEADER] = owner_key
    return await _order(base_url, "observer", headers, {})


async def _order(base_url: str, name: str, headers: dict[str, str], body: dict[str, int]) -> str:
    url = f"{root_of(base_url)}/v1/llmtop/{name}"
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False, verify=trusted()) as http:
            response = await http.post(url, json=body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"no answer: {error or type(error).__name__}"
    return "" if response.status_code == 202 else _reason(response)


def _reason(response: httpx.Response) -> str:
    """What the server says of it, in OpenAI's shape, as one line."""
    try:
        text = str(response.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        text = f"the server answered {response.status_code}"
    return clean_line(text)[:MAX_TEXT]
