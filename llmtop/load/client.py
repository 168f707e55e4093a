"""Sends one request to an OpenAI server and stamps what comes back."""

from __future__ import annotations

import time
from typing import Any

import httpx
import msgspec

from llmtop.load.answer import Answer, FailedRequestError, body_text, sse_data
from llmtop.load.progress import LoadProgress
from llmtop.load.prompts import Prompt
from llmtop.load.result import RequestResult
from llmtop.load.spec import LoadSpec


class LoadClient:
    """Sends requests as a spec says, over kept connections, and counts what comes back."""

    def __init__(
        self, spec: LoadSpec, model: str, http: httpx.AsyncClient, progress: LoadProgress
    ) -> None:
        self._spec = spec
        self._model = model
        self._http = http
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
                answer.check()
            except FailedRequestError as failure:
                error = str(failure)
            except httpx.RemoteProtocolError as failure:
                error = f"connection lost: {failure}"
                if resent == 0 and "without sending a response" in str(failure):
                    continue
            except httpx.HTTPError as failure:
                error = f"{type(failure).__name__}: {failure}".rstrip(": ")
            break
        return _result(answer, number, warmup, t_arrival_ns, t_send_ns, resent, error)

    async def _stream(self, body: bytes, answer: Answer) -> None:
        request = self._http.stream(
            "POST", self._url, content=body, headers={"content-type": "application/json"}
        )
        async with request as response:
            if response.status_code != 200:
                text = (await response.aread())[:4096]
                raise FailedRequestError(f"status {response.status_code}: {body_text(text)}")
            async for data, t_ns in sse_data(response):
                self._progress.num_output_tokens += answer.add(data, t_ns)


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
