"""The help as rows, made from panels and from the registries of keys and of table fields."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

from llmtop.columns import FIELDS
from llmtop.keys import Keymap
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import EMPTY, Row, fit_row
from llmtop.widgets.wrapping import wrapped

COLUMN_WIDTH: Final = 56
_PROSE: Final = 90
_KEY_WIDTH: Final = 9
_NOTES: Final = (
    ("--", "not known; 0 is zero"),
    ("<1%", "less than half a percent, but not nothing"),
)


def help_rows(keymap: Keymap, mode: str, width: int) -> list[Row]:
    """All keys that work in `mode` ("live", "replay" or "compare"), the fields of the dashboard's
    filter, the signs used.

    In as many columns as fit `width`.
    """
    offered = keymap.offered(mode)
    count = max(1, width // COLUMN_WIDTH)
    cell = width // count
    sections = [
        _section(head, [(key.shown, key.help) for key in keys if key in offered], "key", cell)
        for head, keys in keymap.groups(mode).items()
    ]
    if mode != "compare":
        fields = [(name, field.help) for name, field in FIELDS.items()]
        sections.append(_section("Filter fields", fields, "value", cell))
    sections.append(_section("Signs", _NOTES, "value", cell)[:-1])
    return _columns([s for s in sections if s], count, cell)


def panel_rows(panel: Panel, keymap: Keymap, mode: str, width: int) -> list[Row]:
    """What `panel` shows, below the title it has now, and the keys that do something on it."""
    view = panel.painted_view
    title = EMPTY if view is None else panel.title(view)
    offered = {key.name: key for key in keymap.offered(mode)}
    keys: list[Row] = []
    for own in panel.own_keys:
        name, _, here = own.partition(": ")
        if name in offered:
            keys += _lines(offered[name].shown, here or offered[name].help, "key", width)
    text: list[Row] = [((line, "text"),) for line in wrapped(panel.about, min(width, _PROSE))]
    return [title, *text, EMPTY, *keys, *([EMPTY] if keys else [])]


def no_panel_rows(keymap: Keymap, width: int) -> list[Row]:
    """How to have the help begin with a panel."""
    text = f"{keymap.shown('next-panel')} chooses a panel; the help then begins with what it shows"
    return [*(((line, "dim"),) for line in wrapped(text, width)), EMPTY]


def _section(head: str, lines: Sequence[tuple[str, str]], role: str, width: int) -> list[Row]:
    rows = [row for left, right in lines for row in _lines(left, right, role, width)]
    return [((head, "title"),), *rows, EMPTY] if rows else []


def _lines(left: str, right: str, role: str, width: int) -> list[Row]:
    """One line, or more where `width` does not hold what stands at the right."""
    indent = 2 + _KEY_WIDTH
    lead: Row = (("  ", "text"), (f"{left:<{_KEY_WIDTH - 1}} ", role))
    first, *more = wrapped(right, max(8, width - indent))
    return [(*lead, (first, "text")), *(((" " * indent + line, "text"),) for line in more)]


def _columns(sections: list[list[Row]], count: int, cell: int) -> list[Row]:
    """Sections in order, each whole, in `count` columns of about equal height."""
    target = -(-sum(map(len, sections)) // count)
    columns: list[list[Row]] = [[]]
    for section in sections:
        full = columns[-1] and len(columns[-1]) + len(section) // 2 > target
        if full and len(columns) < count:
            columns.append([])
        columns[-1] += section
    return [
        tuple(span for row in line for span in fit_row(row, cell))
        for line in zip_longest(*columns, fillvalue=EMPTY)
    ]
