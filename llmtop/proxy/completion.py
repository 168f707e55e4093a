"""A completion, or a piece of one, as servers of OpenAI's API write it: what it brought, counted.

Text stays as it lies in the message, undecoded: it is only asked whether there is any.
"""

from __future__ import annotations

from typing import Final

import msgspec

_ABSENT: Final = msgspec.Raw(b"")
_NOTHING: Final = frozenset({b"", b'""', b"null", b"[]", b"{}"})


class _Spoken(msgspec.Struct):
    """A delta or a message: any of these fields carries tokens."""

    content: msgspec.Raw = _ABSENT
    reasoning_content: msgspec.Raw = _ABSENT
    reasoning: msgspec.Raw = _ABSENT
    refusal: msgspec.Raw = _ABSENT
    tool_calls: msgspec.Raw = _ABSENT
    function_call: msgspec.Raw = _ABSENT


class _Choice(msgspec.Struct):
    text: msgspec.Raw = _ABSENT
    delta: _Spoken | None = None
    finish_reason: str | None = None

    @property
    def speaks(self) -> bool:
        if self.delta is None:
            return _holds(self.text)
        delta = self.delta
        return (
            _holds(delta.content)
            or _holds(delta.reasoning_content)
            or _holds(delta.reasoning)
            or _holds(delta.refusal)
            or _holds(delta.tool_calls)
            or _holds(delta.function_call)
        )


def _holds(raw: msgspec.Raw) -> bool:
    return bytes(raw) not in _NOTHING


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """The server's own count, None where it does not tell."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None

    @property
    def cached_tokens(self) -> int | None:
        details = self.prompt_tokens_details
        return None if details is None else details.cached_tokens


class Completion(msgspec.Struct):
    choices: list[_Choice] = []
    usage: Usage | None = None
    error: msgspec.Raw = _ABSENT

    @property
    def num_speaking(self) -> int:
        """How many choices carry text or calls: a token each, or more."""
        return sum(choice.speaks for choice in self.choices)

    @property
    def finish_reason(self) -> str:
        """Of the last choice that has ended, "" while none has."""
        return next((c.finish_reason for c in reversed(self.choices) if c.finish_reason), "")

    @property
    def is_error(self) -> bool:
        return _holds(self.error)


_decoder = msgspec.json.Decoder(Completion)


def read_completion(data: bytes) -> Completion | None:
    """None of what is no completion."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
