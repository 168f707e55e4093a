"""The two endpoints that generate: text completions and chat completions."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator
from typing import Final
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response

from engine.config import SamplingParams
from engine.errors import EngineError
from engine.output import SampleUpdate
from engine.server.answer import Answer, Frame, Wishes
from engine.server.async_engine import AsyncEngine, ServedModel
from engine.server.body_params import chat_params, completion_params
from engine.server.chat_shape import ChatShape
from engine.server.completion_shape import CompletionShape
from engine.server.generation import Generation, Order, merge
from engine.server.http_errors import HttpError, from_engine
from engine.server.prompt_input import (
    Prompt,
    chat_messages,
    check_count,
    check_lengths,
    encode,
    split_prompts,
    truncate,
)
from engine.server.schema import ChatBody, CompletionBody, GenerationBody, parse_body
from engine.server.sse import DONE, EventStreamResponse, data_event, while_connected
from engine.validation import check_ids

MAX_ID: Final = 128
CLIENT_CLOSED: Final = 499  # nobody reads it

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._:-]+")


class Generating:
    """Answers `POST /v1/completions` and `POST /v1/chat/completions`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def completions(self, request: Request) -> Response:
        t_arrival_ns = time.monotonic_ns()
        body = parse_body(await request.body(), CompletionBody)
        model = self._engine.model
        model.check_name(body.model)
        params = completion_params(body)
        given = split_prompts(body.prompt)
        check_count(given, params.n)
        prompts = [await _encode(model, body, prompt, True) for prompt in given]
        for ids in prompts:
            check_ids("prompt", ids, model.tokenizer.vocab_size)
        explicit = body.max_tokens is not None
        check_lengths(prompts, params, model.session.max_model_len, explicit=explicit)
        order = _order(request, body, "cmpl", prompts, params, t_arrival_ns)
        wishes = _wishes(body, body.logprobs is not None)
        echoed = zip(given, prompts, strict=True) if body.echo else ()
        echo = [_echo_text(model, prompt, ids) for prompt, ids in echoed]
        shape = CompletionShape(order, model.tokenizer, wishes, echo)
        answer = Answer(_frame(order, model), shape, wishes)
        return await self._respond(request, order, answer, wishes, bool(body.stream))

    async def chat(self, request: Request) -> Response:
        t_arrival_ns = time.monotonic_ns()
        body = parse_body(await request.body(), ChatBody)
        model = self._engine.model
        model.check_name(body.model)
        params = chat_params(body)
        text = model.tokenizer.apply_chat_template(
            chat_messages(body.messages), body.add_generation_prompt is not False
        )
        # The template writes the special tokens itself.
        prompt = await _encode(model, body, text, False)
        explicit = body.max_tokens is not None or body.max_completion_tokens is not None
        check_lengths([prompt], params, model.session.max_model_len, explicit=explicit)
        order = _order(request, body, "chatcmpl", [prompt], params, t_arrival_ns)
        wishes = _wishes(body, bool(body.logprobs))
        answer = Answer(_frame(order, model), ChatShape(model.tokenizer, wishes), wishes)
        return await self._respond(request, order, answer, wishes, bool(body.stream))

    async def _respond(
        self, request: Request, order: Order, answer: Answer, wishes: Wishes, stream: bool
    ) -> Response:
        generation = self._engine.generate(order)
        if stream:
            parts = self._parts(generation, answer, wishes)
            return EventStreamResponse(self._engine.outbox.passing(generation, parts))
        body = await while_connected(request.receive, self._whole(generation, answer))
        if body is None:
            return Response(status_code=CLIENT_CLOSED)
        return Response(body, media_type="application/json")

    async def _whole(self, generation: Generation, answer: Answer) -> bytes:
        samples: list[list[SampleUpdate]] = [[] for _ in generation.requests]
        try:
            while not generation.done:
                for update in await generation.next():
                    samples[generation.index_of(update)].append(update)
        finally:
            self._engine.cancel(generation, "disconnect")
        return answer.body([merge(updates) for updates in samples], generation.usage())

    async def _parts(
        self, generation: Generation, answer: Answer, wishes: Wishes
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of a stream, one part for all that the engine gave since the last one."""
        begun = False
        try:
            while not generation.done:
                part = _chunks(generation, await generation.next(), answer, wishes)
                if generation.done:
                    part += answer.usage_chunk(generation.usage()) if wishes.include_usage else b""
                    part += DONE
                if part:
                    begun = True
                    yield part
        except EngineError as error:
            if not begun:
                raise
            yield data_event(from_engine(error).body())
        finally:
            self._engine.cancel(generation, "disconnect")


def _chunks(
    generation: Generation, updates: list[SampleUpdate], answer: Answer, wishes: Wishes
) -> bytes:
    """An event for each update that says something: a half character waits for its rest."""
    usage = generation.usage() if wishes.continuous_usage else None
    return b"".join(
        answer.chunk(generation.index_of(update), update, usage)
        for update in updates
        if update.text or update.finish_reason is not None or not wishes.text_only
    )


def _wishes(body: GenerationBody, logprobs: bool) -> Wishes:
    options = body.stream_options
    return Wishes(
        include_usage=options is not None and bool(options.include_usage),
        continuous_usage=options is not None and bool(options.continuous_usage_stats),
        logprobs=logprobs,
        prompt_logprobs=body.prompt_logprobs is not None,
        token_ids=bool(body.return_token_ids),
    )


def _frame(order: Order, model: ServedModel) -> Frame:
    return Frame(order.name, int(time.time()), model.names[0])


def _order(
    request: Request,
    body: GenerationBody,
    prefix: str,
    prompts: list[list[int]],
    params: SamplingParams,
    t_arrival_ns: int,
) -> Order:
    wanted = body.request_id or request.headers.get("x-request-id") or uuid4().hex
    name = f"{prefix}-{_UNSAFE.sub('_', wanted)[:MAX_ID]}"
    return Order(name, prompts, params, body.priority or 0, t_arrival_ns)


async def _encode(
    model: ServedModel, body: GenerationBody, prompt: Prompt, special_by_default: bool
) -> list[int]:
    special = body.add_special_tokens
    ids = await encode(model.tokenizer, prompt, special_by_default if special is None else special)
    ids = truncate(ids, body.truncate_prompt_tokens, model.session.max_model_len)
    if not ids:
        raise HttpError(400, "the prompt has no tokens", param="prompt")
    return ids


def _echo_text(model: ServedModel, prompt: Prompt, ids: list[int]) -> str:
    return prompt if isinstance(prompt, str) else model.tokenizer.decode(ids, False)
