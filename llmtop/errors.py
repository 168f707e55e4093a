"""What goes wrong at the command line in a way that a person can mend."""

from __future__ import annotations


class LlmtopError(Exception):
    """`message` is one line; `hint` says what to do about it, in one line, or is empty."""

    def __init__(self, message: str, hint: str = "", exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


class MissingExtraError(LlmtopError):
    """A command needs libraries that the base install does not have."""


class SourceLostError(LlmtopError):
    """What was to be watched is not there, or went away before it had told enough. The exit code is
    3, so that a script can tell it from a server that answers something else."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, exit_code=3)


class LoadError(LlmtopError):
    """The load generator has no server to talk to, or was told something that cannot be run."""
