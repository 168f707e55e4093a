"""What else a cell of the page map can show than its owner: each reads without colour, in ASCII."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from llmtop.widgets.rows import Row, Span, joined_within
from profiler.folds.clock import NS_PER_S
from profiler.folds.pageforms import HOT, NO_FORM, PACKED, SINK
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
_FORMS: Final = {
    HOT: ("h", "prefill", "hot: written"),
    SINK: ("s", "shared", "sink"),
    PACKED: ("p", "used", "packed"),
    NO_FORM: ("-", "dim", "empty"),
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


def form_look(pages: Pages, first: int, last: int, t_ns: int) -> Span:
    """The form of most of the pages that are not free; of equally many a wide one."""
    if pages.states.count(FREE, first, last) == last - first:
        return _FREE
    flags = pages.forms.flags
    empty = flags.count(NO_FORM, first, last) - pages.states.count(FREE, first, last)
    counts = {form: flags.count(form, first, last) for form in _FORMS} | {NO_FORM: empty}
    return _FORMS[max(_FORMS, key=counts.__getitem__)][:2]


Look = Callable[[Pages, int, int, int], Span]
LOOKS: Final[dict[str, Look]] = {
    "state": state_look,
    "age": age_look,
    "references": refs_look,
    "form": form_look,
}


def look_legend(colouring: str, per_cell: int, width: int) -> Row:
    """What the glyphs of one of LOOKS mean, as much of it as there is room for."""
    whole, signs = _SIGNS[colouring]
    parts: list[Row] = [((colouring, "key"),), *((sign, (f" {w}", "dim")) for sign, w in signs())]
    if per_cell > 1:
        parts.insert(1, ((f"{whole} of {per_cell}", "dim"),))
    return joined_within(parts, width)


def _state_signs() -> list[tuple[Span, str]]:
    return [((glyph, role), word) for glyph, role, word in _STATES.values()]


def _age_signs() -> list[tuple[Span, str]]:
    ages = ((0, "<1s"), (1, "<2s"), (2, "<4s ..."), (9, "256s and older"))
    powers: list[tuple[Span, str]] = [((str(n), _AGE_ROLES[n]), word) for n, word in ages]
    return [*powers, (UNKNOWN, "untold"), (_FREE, "free")]


def _refs_signs() -> list[tuple[Span, str]]:
    return [
        (("0", "cached"), "cached"),
        (("1", "used"), "once"),
        (("2-9", "shared"), f"times, {MANY} 10 up"),
        (_FREE, "free"),
    ]


def _form_signs() -> list[tuple[Span, str]]:
    return [*(((glyph, role), word) for glyph, role, word in _FORMS.values()), (_FREE, "free")]


# Which of its pages a cell of many shows, and what the glyphs mean.
_SIGNS: Final = {
    "state": ("most", _state_signs),
    "age": ("oldest", _age_signs),
    "references": ("most", _refs_signs),
    "form": ("most", _form_signs),
}
