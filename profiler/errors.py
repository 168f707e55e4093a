"""What goes wrong with a session file or a stream in a way that a person can mend."""

from __future__ import annotations


class ProfilerError(Exception):
    """`message` is one line; `hint` says what to do about it, in one line, or is empty."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SessionFileError(ProfilerError):
    """The file is not a session of ours, is newer than this program, or is damaged."""


class StreamError(ProfilerError):
    """A remote stream sent something that is not an event, or more than the limits allow."""


class ConditionError(ProfilerError):
    """A condition on a metric that cannot be read."""
