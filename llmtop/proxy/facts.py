"""What the server behind the proxy says of itself."""

from __future__ import annotations

import time
from typing import Final

import httpx

from llmtop import __version__
from llmtop.peer import key_headers
from llmtop.sanitize import clean_line
from llmtop.served_models import MODELS_PATH, ServedModel, served_models
from llmtop.trust import trusted
from profiler.events import SessionStart

WITHIN_S: Final = 5.0
MAX_ANSWER_BYTES: Final = 1 << 20
MAX_NAME_CHARS: Final = 200


async def models_of(base_url: str, api_key: str | None) -> list[ServedModel]:
    """The models that it lists, none where it lists none or cannot be asked."""
    headers = key_headers(api_key)
    try:
        async with httpx.AsyncClient(
            headers=headers, timeout=WITHIN_S, trust_env=False, verify=trusted()
        ) as client:
            async with client.stream("GET", f"{base_url}{MODELS_PATH}") as response:
                body = b""
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > MAX_ANSWER_BYTES:
                        return []
        return served_models(body) if response.status_code == 200 else []
    except httpx.HTTPError:
        return []


def session_start(base_url: str, models: list[ServedModel]) -> SessionStart:
    """The facts of a session behind a proxy; 0 and "" are what nobody tells."""
    first = models[0] if models else ServedModel()
    owner = clean_line(first.owned_by)[:MAX_NAME_CHARS]
    return SessionStart(
        time.monotonic_ns(), time.time_ns(), __version__, clean_line(first.id)[:MAX_NAME_CHARS],
        "", 0, 0, 0, 0, 0, first.max_model_len or 0, 0, 0,
        {"owned_by": owner} if owner else {}, upstream=base_url,
    )  # fmt: skip
