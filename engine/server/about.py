"""The endpoints that tell about the server and its model, and turn text into tokens and back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from engine.server.answer import json_bytes
from engine.server.async_engine import AsyncEngine
from engine.server.http_errors import HttpError
from engine.server.prompt_input import chat_messages, encode
from engine.server.schema import DetokenizeBody, TokenizeBody, parse_body

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Tokens(msgspec.Struct, omit_defaults=True):
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class About:
    """`metrics` gives a Prometheus page."""

    def __init__(self, engine: AsyncEngine, version: str, metrics: Callable[[], bytes]) -> None:
        self._engine = engine
        self._version = version
        self._metrics = metrics
        self._created = int(time.time())

    async def health(self, request: Request) -> Response:
        """200 only while requests are taken."""
        state = self._engine.state
        return _json({"status": state}, 200 if state == "ready" else 503)

    async def version(self, request: Request) -> Response:
        return _json({"version": self._version})

    async def metrics(self, request: Request) -> Response:
        return Response(self._metrics(), media_type=None, headers={"content-type": METRICS_TYPE})

    async def models(self, request: Request) -> Response:
        return _json({"object": "list", "data": [self._card()]})

    async def model(self, request: Request) -> Response:
        self._engine.model.check_name(request.path_params["name"])
        return _json(self._card())

    def _card(self) -> dict[str, object]:
        model = self._engine.model
        return {
            "id": model.names[0],
            "object": "model",
            "created": self._created,
            "owned_by": "llmtop",
            "root": model.session.model,
            "parent": None,
            "max_model_len": model.session.max_model_len,
        }

    async def tokenize(self, request: Request) -> Response:
        body = parse_body(await request.body(), TokenizeBody)
        model = self._engine.model
        model.check_name(body.model)
        special = body.add_special_tokens
        if body.messages is not None:
            text = model.tokenizer.apply_chat_template(
                chat_messages(body.messages), body.add_generation_prompt is not False
            )
            special = bool(special)
        elif body.prompt is not None:
            text, special = body.prompt, special is not False
        else:
            raise HttpError(400, "Missing required field: prompt", param="prompt")
        ids = await encode(model.tokenizer, text, special)
        texts = [model.tokenizer.token_text(i) for i in ids] if body.return_token_strs else None
        return _json(Tokens(len(ids), model.session.max_model_len, ids, texts))

    async def detokenize(self, request: Request) -> Response:
        body = parse_body(await request.body(), DetokenizeBody)
        model = self._engine.model
        model.check_name(body.model)
        if any(not 0 <= token < model.tokenizer.vocab_size for token in body.tokens):
            raise HttpError(400, "tokens: not all are in the vocabulary", param="tokens")
        return _json({"prompt": model.tokenizer.decode(body.tokens, False)})

    async def tokenizer_info(self, request: Request) -> Response:
        """What lm-eval's remote tokenizer asks for."""
        tokenizer = self._engine.model.tokenizer
        eos = min(tokenizer.eos_ids, default=None)
        return _json({"eos_token": None if eos is None else tokenizer.token_text(eos)})


def _json(value: object, status: int = 200) -> Response:
    return Response(json_bytes(value), status, media_type="application/json")
