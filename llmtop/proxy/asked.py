"""What a request asks for, as far as it is shown: never its prompt."""

from __future__ import annotations

from typing import Final

import msgspec

MAX_BODY_BYTES: Final = 1 << 20


class Asked(msgspec.Struct, frozen=True):
    """The settings of a completion request; what it leaves out, or writes oddly, is None."""

    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None

    @property
    def most_tokens(self) -> int | None:
        """The bound on its output that the client set."""
        if self.max_completion_tokens is not None:
            return self.max_completion_tokens
        return self.max_tokens

    @property
    def sampling(self) -> str:
        """The settings as our own engine writes them; "greedy" at temperature 0."""
        told = {name: getattr(self, name) for name in _SHOWN}
        words = [f"{name}={value:g}" for name, value in told.items() if value is not None]
        return " ".join(["greedy"] if self.temperature == 0 else words)


_SHOWN: Final = ("temperature", "top_p", "top_k", "seed", "n")
_decoder = msgspec.json.Decoder(Asked)
_UNKNOWN: Final = Asked()


class RequestBody:
    """Gathers a request's body as it passes, up to 1 MiB; of a longer one nothing is known."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._num_bytes = 0

    def feed(self, part: bytes) -> None:
        self._num_bytes += len(part)
        if self._num_bytes <= MAX_BODY_BYTES:
            self._parts.append(part)
        else:
            self._parts.clear()

    def read(self) -> Asked:
        """What it asks for; the body is forgotten."""
        body = b"".join(self._parts)
        self._parts.clear()
        try:
            return _decoder.decode(body) if body else _UNKNOWN
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return _UNKNOWN
