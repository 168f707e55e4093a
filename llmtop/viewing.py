"""How a viewer looks at a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Viewing:
    """With `privacy` the picture begins masked."""

    privacy: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """The same, as options of `llmtop attach`."""
        return ("--privacy",) if self.privacy else ()


AS_IT_IS: Final = Viewing()
