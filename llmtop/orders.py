"""Orders to a server that takes them (`llmtop serve --control`)."""

from __future__ import annotations

from typing import Final

import httpx

from llmtop.peer import key_headers, root_of
from llmtop.sanitize import clean_line

_TIMEOUT_S: Final = 5.0
MAX_TEXT: Final = 200


async def order_capture(base_url: str, api_key: str | None, num_steps: int) -> str:
    """Has the server capture the kernels of its next steps; "" if it will, else why not."""
    url, headers = f"{root_of(base_url)}/v1/llmtop/capture", key_headers(api_key)
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as http:
            response = await http.post(url, json={"steps": num_steps}, headers=headers)
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
