"""What goes wrong in the engine in a way that a person can mend."""

from __future__ import annotations


class EngineError(Exception):
    """`message` is one line; `hint` says what to do about it, in one line, or is empty."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ModelError(EngineError):
    """The model's files are missing, corrupt or of a kind this engine does not run."""


class DoesNotFitError(EngineError):
    """Weights or pages need more memory than there is; the message carries the numbers."""


class QueueFullError(EngineError):
    """The bounded queue has no place; the client should come again later."""


class InvalidRequestError(EngineError):
    """A field of a request is out of range; `param` names it."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param
