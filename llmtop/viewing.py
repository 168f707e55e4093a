"""How a viewer looks at a source, and what else a viewer may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Viewing:
    """With `privacy` the picture begins masked. `readonly` refuses the keys that act. `control`
    lets the viewer give orders to a server that takes them; who started the server shows it
    `owner_key`, which it obeys without. With `ascii` nothing else is drawn. `slow` paints once a
    second and little at a time, for a thin line to the terminal."""

    privacy: bool = False
    readonly: bool = False
    control: bool = False
    ascii: bool = False
    owner_key: str = ""
    slow: bool = False

    @property
    def capture_refusal(self) -> str:
        """Why this viewer may have no kernels captured; "" for one who may."""
        if self.readonly:
            return "no new capture: refused by --readonly"
        return "" if self.control else "a new capture needs --control, of llmtop serve and here"

    @property
    def observer_refusal(self) -> str:
        """Why this viewer may not have the cost of observing measured; "" for one who may."""
        if self.readonly:
            return "not measured: refused by --readonly"
        may = self.control or self.owner_key
        return "" if may else "measuring needs --control, of llmtop serve and here"

    @property
    def flags(self) -> tuple[str, ...]:
        """The same, as options of `llmtop attach`."""
        chosen = {"--privacy": self.privacy, "--readonly": self.readonly, "--ascii": self.ascii}
        chosen["--slow"] = self.slow
        chosen["--control"] = self.control and not self.readonly
        return tuple(flag for flag, given in chosen.items() if given)


AS_IT_IS: Final = Viewing()
