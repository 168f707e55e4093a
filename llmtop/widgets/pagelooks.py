"""What else a cell of the page map can show than its owner: each reads without colour, in ASCII."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from llmtop.widgets.rows import Row, Span
from profiler.folds.clock import NS_PER_S
from profiler.folds.pages import CACHED, FREE, OPEN, SHARED, USED, Pages

MANY: Final = "+"
UNKNOWN: Final[Span] = ("?", "dim")
_FREE: Final[Span] = (".", "free")
# The glyph, role and word of a state, in the order in which a cell of many pages takes its look.
_STATES: Final = {
    SHARED: ("&", "shared", "shared"),
    USED: ("#", "used", "full"),
    OPEN: ("o", "prefill", "filling"),
    CACHED: ("c", "cached", "cached"),
    FREE: (*_FREE, "free"),
}
# By powers of two of a second: under 1 s, 1, 2 to 3, 4 to 7, ..., from 256 s on.
_AGE_ROLES: Final = ("key",) * 2 + ("prefill",) * 2 + ("decode",) * 2 + ("done",) * 2 + ("dim",) * 2


def state_look(pages: Pages, first: int, last: int, t_ns: int) -> Span:
    """The state of most of the pages; of equally many the one that binds more."""
    count = pages.states.count
    state = max(_STATES, key=lambda state: count(state, first, last))
    return _STATES[state][:2]


def age_look(pages: Pages, first: int, last: int, t_ns: int) -> Span:
    """The power of two of the seconds since the oldest of the pages was allocated."""
    if pages.states.count(FREE, first, last) == last - first:
        return _FREE
    known = [allocated for allocated in pages.t_alloc_ns[first:last] if allocated]
    if not known:
        return UNKNOWN
    power = min(9, (max(0, t_ns - min(known)) // NS_PER_S).bit_length())
    return str(power), _AGE_ROLES[power]


def refs_look(pages: Pages, first: int, last: int, t_ns: int) -> Span:
    """The references to the page that has most."""
    refs = max(pages.refs[first:last])
    if refs:
        return str(refs) if refs < 10 else MANY, "shared" if refs > 1 else "used"
    return _FREE if pages.states.count(FREE, first, last) == last - first else ("0", "cached")


Look = Callable[[Pages, int, int, int], Span]
LOOKS: Final[dict[str, Look]] = {"state": state_look, "age": age_look, "references": refs_look}


def look_legend(colouring: str, per_cell: int) -> Row:
    """What the glyphs of one of LOOKS mean."""
    many = per_cell > 1
    if colouring == "state":
        pairs = [(span, word) for *span, word in _STATES.values()]
        row: Row = tuple(
            part for (glyph, role), word in pairs for part in ((glyph, role), (f" {word}  ", "dim"))
        )
        return (*row, (f"most of {per_cell}", "dim")) if many else row
    if colouring == "age":
        ages: Row = (("0", "key"), (" <1s  ", "dim"), ("1", "key"), (" <2s  ", "dim"))
        ages += (("2", "prefill"), (" <4s ... ", "dim"), ("9", "dim"), (" 256s and older  ", "dim"))
        oldest = f" oldest of {per_cell}" if many else ""
        return (*ages, UNKNOWN, (" untold  ", "dim"), *_free_word(), (oldest, "dim"))
    most = f"most of {per_cell} pages  " if many else ""
    counts: Row = (("0", "cached"), (" cached  ", "dim"), ("1", "used"), (" once  ", "dim"))
    counts += (("2-9", "shared"), (f" times, {MANY} 10 up  {most}", "dim"))
    return (*counts, *_free_word())


def _free_word() -> Row:
    return (_FREE, (" free", "dim"))
