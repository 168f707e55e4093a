"""Text to token ids and back, and the chat template. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

from engine.models.bytes import ByteVocabulary
from engine.models.folder import ModelFolder
from engine.models.template import ChatTemplate, read_template
from engine.models.vocabulary import FileVocabulary


class Vocabulary(Protocol):
    """The pieces behind a Tokenizer."""

    @property
    def special_ids(self) -> frozenset[int]: ...

    def encode(self, text: str, add_special_tokens: bool) -> list[int]: ...

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str: ...

    def token_bytes(self, token_id: int) -> bytes: ...


class Tokenizer:
    """`vocab_size` is the model's: ids beyond the vocabulary's own have no text."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        template: ChatTemplate,
        eos_ids: frozenset[int],
        vocab_size: int,
    ) -> None:
        self._vocabulary = vocabulary
        self._template = template
        self._bytes: dict[int, bytes] = {}
        self.eos_ids = eos_ids
        self.vocab_size = vocab_size

    @classmethod
    def load(cls, folder: ModelFolder) -> Tokenizer:
        """The folder's own tokenizer, bytes for a random model. Raises: ModelError."""
        config = folder.config
        vocabulary: Vocabulary
        if folder.is_random:
            vocabulary, template = ByteVocabulary(config.eos_token_ids), ChatTemplate("")
        else:
            vocabulary = FileVocabulary.load(folder.path / "tokenizer.json")
            template = read_template(folder.path)
        return cls(vocabulary, template, frozenset(config.eos_token_ids), config.vocab_size)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Tokens that `skip_special_tokens` leaves out."""
        return self._vocabulary.special_ids

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return self._vocabulary.encode(text, add_special_tokens)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        return self._vocabulary.decode(ids, skip_special_tokens)

    def token_bytes(self, token_id: int) -> bytes:
        """What the token adds to a text, maybe half a character; empty for an unknown id."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._vocabulary.token_bytes(token_id)
        return known

    def token_text(self, token_id: int) -> str:
        return self.token_bytes(token_id).decode("utf-8", errors="replace")

    def apply_chat_template(
        self, messages: Sequence[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The prompt of a conversation. Raises: InvalidRequestError if the template refuses it."""
        return self._template.render(messages, add_generation_prompt)
