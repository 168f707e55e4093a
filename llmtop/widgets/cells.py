"""A row cell by cell: how two of them differ, and how a stretch of one is written."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, count, groupby
from operator import ne
from typing import Final, NamedTuple

from rich.cells import get_character_cell_size

from llmtop.widgets.rows import Row, is_plain, plain

# Up to this many unchanged cells between two changed ones are sent along with them: moving the
# cursor and setting the colours again takes about as many bytes.
_BRIDGE: Final = 4


class Cells(NamedTuple):
    """What stands in each cell, and its role. The second cell of a wide character holds "", and
    marks without a width stand with the character they belong to."""

    chars: Sequence[str]
    roles: list[str]


def cells_in(row: Row) -> Cells:
    text = plain(row)
    if is_plain(text):
        roles: list[str] = []
        for part, role in row:
            roles += [role] * len(part)
        return Cells(text, roles)
    chars: list[str] = []
    roles_of: list[str] = []
    for part, role in row:
        for character in part:
            width = get_character_cell_size(character)
            if width:
                chars += [character, *[""] * (width - 1)]
                roles_of += [role] * width
            elif chars:
                chars[-1 if chars[-1] else -2] += character
    return Cells(chars, roles_of)


def changed_runs(old: Cells, new: Cells) -> list[tuple[int, int]]:
    """(first cell, number of cells) of the stretches in which two rows of one width differ."""
    # The comparison of all cells of all rows that changed: nothing of it runs in Python.
    changed = list(compress(count(), map(ne, old.chars, new.chars)))
    if old.roles != new.roles:
        changed = sorted({*changed, *compress(count(), map(ne, old.roles, new.roles))})
    if not changed:
        return []
    runs: list[tuple[int, int]] = []
    first = last = changed[0]
    for x in changed:
        if x - last > _BRIDGE:
            runs.append((first, last - first + 1))
            first = x
        last = x
    return [*runs, (first, last - first + 1)]


def stretch(cells: Cells, first: int, count: int) -> Row:
    """`count` cells from cell `first` on, as a row."""
    chars, roles = cells.chars, cells.roles[first : first + count]
    if roles.count(roles[0]) == count:  # as nearly always
        return (("".join(chars[first : first + count]), roles[0]),)
    out: list[tuple[str, str]] = []
    at = first
    for role, group in groupby(roles):
        upto = at + sum(1 for _ in group)
        out.append(("".join(chars[at:upto]), role))
        at = upto
    return tuple(out)
