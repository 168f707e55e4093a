"""The choices of a text completion."""

from __future__ import annotations

from typing import Any

from engine.models.tokenizer import Tokenizer
from engine.output import SampleUpdate
from engine.request import TokenLogprobs
from engine.server.answer import Wishes, json_bytes
from engine.server.generation import Order
from engine.server.logprobs import CompletionLogprobs, completion_logprobs, prompt_logprobs


class CompletionShape:
    """`echo` holds the prompts' texts if each choice is to begin with its prompt, else nothing."""

    object_name = "text_completion"
    chunk_object_name = "text_completion"

    def __init__(
        self,
        order: Order,
        tokenizer: Tokenizer,
        wishes: Wishes,
        echo: list[str],
    ) -> None:
        self._order = order
        self._tokenizer = tokenizer
        self._wishes = wishes
        self._echo = echo
        self._sent: dict[int, int] = {}  # characters of each sample's text that are written
        self._prompt_logprobs: dict[int, list[TokenLogprobs | None]] = {}  # by prompt

    def choice(self, index: int, sample: SampleUpdate) -> dict[str, Any]:
        choice = self._fields(index, sample)
        if self._wishes.prompt_logprobs:
            known = self._prompt_logprobs.get(self._prompt_of(index), [])
            choice["prompt_logprobs"] = prompt_logprobs(self._tokenizer, known)
        return choice

    def chunk_choice(self, index: int, update: SampleUpdate) -> bytes:
        if update.finish_reason is None and self._wishes.text_only and index in self._sent:
            text = json_bytes(update.text)
            return b'{"index":%d,"text":%b,"logprobs":null,"finish_reason":null}' % (index, text)
        return json_bytes(self._fields(index, update))

    def _fields(self, index: int, update: SampleUpdate) -> dict[str, Any]:
        wishes, is_first = self._wishes, index not in self._sent
        prompt = self._prompt_of(index)
        if update.prompt_logprobs is not None:
            self._prompt_logprobs[prompt] = update.prompt_logprobs
        echoes = is_first and bool(self._echo)
        text = (self._echo[prompt] if echoes else "") + update.text
        choice: dict[str, Any] = {
            "index": index,
            "text": text,
            "logprobs": self._logprobs(index, update, echoes) if wishes.logprobs else None,
            "finish_reason": update.finish_reason,
        }
        if update.finish_reason is not None:
            choice["stop_reason"] = update.stop_reason
        if wishes.token_ids:
            choice["token_ids"] = update.token_ids
            if is_first:
                choice["prompt_token_ids"] = self._order.prompts[prompt]
        self._sent[index] = self._sent.get(index, 0) + len(text)
        return choice

    def _logprobs(self, index: int, update: SampleUpdate, echoes: bool) -> CompletionLogprobs:
        ids = list(update.token_ids)
        known: list[TokenLogprobs | None] = list(update.logprobs or ())
        if echoes:
            prompt = self._prompt_of(index)
            prompt_ids = self._order.prompts[prompt]
            ids[:0] = prompt_ids
            known[:0] = self._prompt_logprobs.get(prompt, [None] * len(prompt_ids))
        return completion_logprobs(self._tokenizer, ids, known, self._sent.get(index, 0))

    def _prompt_of(self, index: int) -> int:
        return index // self._order.params.n
