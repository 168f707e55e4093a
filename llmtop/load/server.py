"""What a load generator asks of a server before it begins."""

from __future__ import annotations

from typing import Final

import httpx

from llmtop.errors import LoadError
from llmtop.load.spec import LoadSpec
from llmtop.peer import KEY_HINT
from llmtop.served_models import MODELS_PATH, served_models
from llmtop.trust import trusted

CONNECT_TIMEOUT_S: Final = 5.0
BUSY_HINT: Final = "while it starts or stops, it does: try again once its /health answers 200"


class Server:
    """Knows the model's name and how many tokens a text has there."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._can_count = True

    async def first_model(self) -> str:
        """The first id under /v1/models. Raises: LoadError."""
        try:
            response = await self._http.get(MODELS_PATH, timeout=CONNECT_TIMEOUT_S)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise LoadError(
                f"no answer from {self._http.base_url}: {error or type(error).__name__}",
                "is the server up, and is the address right?",
            ) from None
        if response.status_code in (401, 403):
            raise LoadError("the server wants a key", KEY_HINT)
        if response.status_code == 503:
            raise LoadError("the server answers 503: it serves no model now", BUSY_HINT)
        models = served_models(response.content)
        if not models or not models[0].id:
            raise LoadError(
                f"{MODELS_PATH} answered {response.status_code} and names no model",
                "give the model's name with --model",
            )
        return models[0].id

    async def count_tokens(self, model: str, text: str) -> int | None:
        """The tokens of `text` by the server's own /tokenize, None where there is none."""
        if not self._can_count:
            return None
        try:
            response = await self._http.post("/tokenize", json={"model": model, "prompt": text})
            body = response.json() if response.status_code == 200 else None
        except (httpx.HTTPError, ValueError):
            body = None
        count = body.get("count") if isinstance(body, dict) else None
        self._can_count = isinstance(count, int)
        return count if isinstance(count, int) else None


def open_client(spec: LoadSpec) -> httpx.AsyncClient:
    """A client of the spec's server that never asks the environment for a proxy."""
    return httpx.AsyncClient(
        base_url=spec.root_url,
        headers=spec.headers,
        timeout=httpx.Timeout(spec.timeout_s, connect=CONNECT_TIMEOUT_S),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        trust_env=False,
        verify=trusted(),
    )
