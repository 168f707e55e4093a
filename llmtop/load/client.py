"""Sends one request to an OpenAI server and stamps what comes back."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import msgspec

from llmtop.load.answer import Answer, EventData, FailedRequestError, body_text
from llmtop.load.connection import Connections, ExchangeError, NoResponseError
from llmtop.load.progress import LoadProgress
from llmtop.load.prompts import Prompt
from llmtop.load.result import RequestResult
from llmtop.load.spec import LoadSpec

MAX_REFUSAL_BYTES: Final = 4096


class LoadClient:
    """Sends requests as a spec says, over kept connections, and counts what comes back."""

    def __init__(
        self, spec: LoadSpec, model: str, connections: Connections, progress: LoadProgress
    ) -> None:
        self._spec = spec
        self._model = model
        self._connections = connections
        self._progress = progress
        self._url = "/v1/completions" if spec.endpoint == "completions" else "/v1/chat/completions"

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        spec = self._spec
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": prompt.max_tokens,
            "temperature": spec.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if spec.continuous_usage:
            body["stream_options"]["continuous_usage_stats"] = True
        if spec.endpoint == "completions":
            body["prompt"] = prompt.text
        else:
            body["messages"] = [{"role": "user", "content": prompt.text}]
        if spec.ignore_eos:
            body["ignore_eos"] = True
        return body

    async def send(
        self, number: int, prompt: Prompt, t_arrival_ns: int, warmup: bool
    ) -> RequestResult:
        """What became of the request. A failure is in the result, never raised."""
        body = msgspec.json.encode(self._body(prompt))
        answer, resent, error = Answer(), 0, ""
        t_send_ns = time.monotonic_ns()
        for resent in (0, 1):
            answer, error = Answer(), ""
            try:
                await self._stream(body, answer)
            except NoResponseError as failure:
                error = str(failure)
                if resent == 0:
                    continue
            except (FailedRequestError, ExchangeError) as failure:
                error = str(failure)
            except TimeoutError:
                error = f"no whole answer within {self._spec.timeout_s:g} s"
            break
        return _result(answer, number, warmup, t_arrival_ns, t_send_ns, resent, error)

    async def _stream(self, body: bytes, answer: Answer) -> None:
        """Raises: FailedRequestError, ExchangeError, TimeoutError."""
        stream, refusal = EventData(), bytearray()

        def hear(status: int, part: bytes, t_ns: int) -> None:
            if status != 200:
                refusal.extend(part[: MAX_REFUSAL_BYTES - len(refusal)])
                return
            for data in stream.feed(part):
                self._progress.num_output_tokens += answer.add(data, t_ns)

        async with asyncio.timeout(self._spec.timeout_s):
            status = await self._connections.post(self._url, body, hear)
        if status != 200:
            raise FailedRequestError(f"status {status}: {body_text(bytes(refusal))}")
        answer.check()


def _result(
    answer: Answer,
    number: int,
    warmup: bool,
    t_arrival_ns: int,
    t_send_ns: int,
    resent: int,
    error: str,
) -> RequestResult:
    usage, chunks = answer.usage, answer.chunks
    details = usage.prompt_tokens_details if usage else None
    num_chunk_tokens = sum(chunk.num_tokens for chunk in chunks)
    return RequestResult(
        number=number,
        warmup=warmup,
        t_arrival_ns=t_arrival_ns,
        t_send_ns=t_send_ns,
        t_done_ns=time.monotonic_ns(),
        chunks=chunks,
        num_prompt_tokens=usage.prompt_tokens if usage else 0,
        num_cached_tokens=details.cached_tokens if details else None,
        num_output_tokens=usage.completion_tokens if usage else num_chunk_tokens,
        usage=usage is not None,
        chunks_counted=usage is not None and usage.completion_tokens == num_chunk_tokens,
        resent=resent,
        error=error,
    )
