"""The engine's own books must balance; what is raised when they do not is a defect of ours."""

from __future__ import annotations


class InvariantError(AssertionError):
    """Bookkeeping contradicts itself."""


def require(holds: bool, what: str) -> None:
    """Raises: InvariantError."""
    if not holds:
        raise InvariantError(what)
