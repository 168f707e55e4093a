"""The choices of a chat completion."""

from __future__ import annotations

from typing import Any

from engine.models.tokenizer import Tokenizer
from engine.output import SampleUpdate
from engine.server.answer import Wishes, json_bytes
from engine.server.logprobs import chat_logprobs, prompt_logprobs


class ChatShape:
    object_name = "chat.completion"
    chunk_object_name = "chat.completion.chunk"

    def __init__(self, tokenizer: Tokenizer, wishes: Wishes) -> None:
        self._tokenizer = tokenizer
        self._wishes = wishes
        self._begun: set[int] = set()

    def choice(self, index: int, sample: SampleUpdate) -> dict[str, Any]:
        choice = self._fields(index, sample)
        choice["message"] = {"role": "assistant", "content": sample.text, "refusal": None}
        if self._wishes.prompt_logprobs and sample.prompt_logprobs is not None:
            choice["prompt_logprobs"] = prompt_logprobs(self._tokenizer, sample.prompt_logprobs)
        return choice

    def chunk_choice(self, index: int, update: SampleUpdate) -> bytes:
        if update.finish_reason is None and self._wishes.text_only and index in self._begun:
            return b'{"index":%d,"delta":{"content":%b},"logprobs":null,"finish_reason":null}' % (
                index,
                json_bytes(update.text),
            )
        role = {} if index in self._begun else {"role": "assistant"}
        self._begun.add(index)
        return json_bytes(self._fields(index, update) | {"delta": {**role, "content": update.text}})

    def _fields(self, index: int, update: SampleUpdate) -> dict[str, Any]:
        known = update.logprobs or ()
        choice: dict[str, Any] = {
            "index": index,
            "logprobs": chat_logprobs(self._tokenizer, known) if self._wishes.logprobs else None,
            "finish_reason": update.finish_reason,
        }
        if update.finish_reason is not None:
            choice["stop_reason"] = update.stop_reason
        if self._wishes.token_ids:
            choice["token_ids"] = update.token_ids
        return choice
