"""Text to token ids and back, and the chat template. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from engine.models.bytes import ByteVocabulary
from engine.models.config import ModelConfig
from engine.models.template import ChatTemplate, read_template
from engine.models.vocabulary import FileVocabulary


class Vocabulary(Protocol):
    """The pieces behind a Tokenizer."""

    @property
    def special_ids(self) -> frozenset[int]: ...

    @property
    def strips_first_space(self) -> bool:
        """Whether a text's first piece begins with a space that encoding put there."""
        ...

    def encode(self, text: str, add_special_tokens: bool) -> list[int]: ...

    def token_bytes(self, token_id: int) -> bytes: ...


class Tokenizer:
    """`vocab_size` is the model's: ids beyond the vocabulary's own have no text."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        template: ChatTemplate,
        eos_ids: tuple[int, ...],
        vocab_size: int,
    ) -> None:
        self._vocabulary = vocabulary
        self._template = template
        self._bytes: dict[int, bytes] = {}
        self.eos_ids = eos_ids
        self.vocab_size = vocab_size
        self.special_ids = vocabulary.special_ids
        self.strips_first_space = vocabulary.strips_first_space

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """The tokenizer of a model folder; a random model's are bytes. Raises: ModelError."""
        config = ModelConfig.load(path)
        vocabulary: Vocabulary
        if config.random_weights:
            vocabulary, template = ByteVocabulary(config.eos_token_ids), ChatTemplate("")
        else:
            vocabulary = FileVocabulary.load(path / "tokenizer.json")
            template = read_template(path)
        return cls(vocabulary, template, config.eos_token_ids, config.vocab_size)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return self._vocabulary.encode(text, add_special_tokens)

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of the tokens; bytes that are no UTF-8 become U+FFFD."""
        skipped = self.special_ids if skip_special_tokens else frozenset[int]()
        data = b"".join(self.token_bytes(i) for i in ids if i not in skipped)
        if self.strips_first_space:
            data = data.removeprefix(b" ")
        return data.decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """What the token adds to a text, maybe half a character; empty for an unknown id."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._vocabulary.token_bytes(token_id)
        return known

    def token_text(self, token_id: int) -> str:
        return self.token_bytes(token_id).decode("utf-8", errors="replace")

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True
    ) -> str:
        """The prompt of a conversation. Raises: InvalidRequestError if the template refuses it."""
        return self._template.render(messages, add_generation_prompt)
