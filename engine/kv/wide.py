"""Wide pages: where tokens are written while their page is filled, and where sinks stay."""

from __future__ import annotations

from engine.invariants import require


class WidePages:
    """Which wide page, if any, a page has beside its record. Numbers only, no tensors."""

    def __init__(self, num_wide: int) -> None:
        self.num_wide = num_wide
        # A stack: the same few are used again and again, so that few are ever touched.
        self._free = list(range(num_wide - 1, -1, -1))
        self._of: dict[int, int] = {}

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_used(self) -> int:
        return len(self._of)

    def of(self, page: int) -> int | None:
        return self._of.get(page)

    def take(self, page: int) -> int:
        """One for a page that has none. Raises: IndexError with none free."""
        wide = self._of[page] = self._free.pop()
        return wide

    def give_back(self, page: int) -> None:
        """A page that has none is left alone."""
        wide = self._of.pop(page, None)
        if wide is not None:
            self._free.append(wide)

    def pages(self) -> set[int]:
        """Those that have one."""
        return set(self._of)

    def check(self) -> None:
        """Raises: InvariantError unless every wide page is free or beside one page."""
        both = sorted([*self._free, *self._of.values()])
        require(both == list(range(self.num_wide)), "a wide page is lost or taken twice")
