"""A conversation with a served model, over its HTTP API, measured where the user sits."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import Any, Final

import httpx
import msgspec

from llmtop.errors import LoadError
from llmtop.load.answer import Answer, FailedRequestError, body_text, sse_data
from llmtop.load.server import Server
from llmtop.peer import key_headers, root_of
from llmtop.sanitize import clean_text
from llmtop.trust import trusted

MAX_TOKENS: Final = 512
_CONNECT_TIMEOUT_S: Final = 5.0
_READ_TIMEOUT_S: Final = 300.0


class ChatError(Exception):
    """Why there is no answer, in one line."""


class Timing:
    """What the client saw of one answer, from the moment it sent the question."""

    def __init__(self) -> None:
        self._t_send_ns = time.monotonic_ns()
        self.answer = Answer()

    @property
    def ttft_ms(self) -> float | None:
        """From sending to the first chunk that held text."""
        chunks = self.answer.chunks
        return (chunks[0].t_ns - self._t_send_ns) / 1e6 if chunks else None

    @property
    def num_tokens(self) -> int:
        usage = self.answer.usage
        return usage.completion_tokens if usage else sum(c.num_tokens for c in self.answer.chunks)

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens after the first chunk by the time from the first chunk to the newest."""
        chunks = self.answer.chunks
        if len(chunks) < 2 or chunks[-1].t_ns == chunks[0].t_ns:
            return None
        later = sum(chunk.num_tokens for chunk in chunks[1:])
        return 1e9 * later / (chunks[-1].t_ns - chunks[0].t_ns)


class Chat:
    """Questions and answers so far; each question is sent with all that came before it."""

    def __init__(self, base_url: str, api_key: str | None) -> None:
        self._http = httpx.AsyncClient(
            base_url=root_of(base_url),
            headers=key_headers(api_key),
            timeout=httpx.Timeout(_READ_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
            trust_env=False,
            verify=trusted(),
        )
        self._model = ""
        self._messages: list[dict[str, str]] = []
        self.timing: Timing | None = None

    async def __aenter__(self) -> Chat:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def ask(self, question: str) -> AsyncGenerator[str, None]:
        """The answer piece by piece, free of control characters.

        Closing the iterator closes the connection, and the server gives the request's pages
        back. Only a question that was answered to its end stays in the conversation.
        Raises: ChatError.
        """
        asked = [*self._messages, {"role": "user", "content": question}]
        pieces: list[str] = []
        try:
            if not self._model:
                self._model = await Server(self._http).first_model()
            timing = self.timing = Timing()
            async with aclosing(self._stream(asked, timing.answer)) as stream:
                async for piece in stream:
                    pieces.append(piece)
                    yield clean_text(piece)
            timing.answer.check()
        except LoadError as error:
            raise ChatError(error.message) from None
        except FailedRequestError as error:
            raise ChatError(str(error)) from None
        except httpx.HTTPError as error:
            raise ChatError(f"{type(error).__name__}: {error}".rstrip(": ")) from None
        self._messages = [*asked, {"role": "assistant", "content": "".join(pieces)}]

    async def _stream(
        self, messages: list[dict[str, str]], answer: Answer
    ) -> AsyncGenerator[str, None]:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": messages,
            "max_tokens": MAX_TOKENS,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        request = self._http.stream(
            "POST",
            "/v1/chat/completions",
            content=msgspec.json.encode(body),
            headers={"content-type": "application/json"},
        )
        async with request as response:
            if response.status_code != 200:
                text = (await response.aread())[:4096]
                raise FailedRequestError(f"status {response.status_code}: {body_text(text)}")
            async for data, t_ns in sse_data(response):
                answer.add(data, t_ns)
                if answer.newest_text:
                    yield answer.newest_text
