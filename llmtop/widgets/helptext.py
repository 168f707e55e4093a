"""The help as rows, made from panels and from the registries of keys and of table fields."""

from __future__ import annotations

from itertools import zip_longest
from typing import Final

from llmtop.columns import FIELDS
from llmtop.keys import Key, Keymap
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
    sections = [_key_section(head, keys, offered) for head, keys in keymap.groups(mode).items()]
    if mode != "compare":
        fields = [_line(name, field.help, "value") for name, field in FIELDS.items()]
        sections.append([_head("Filter fields"), *fields, EMPTY])
    sections.append([_head("Signs"), *(_line(sign, text, "value") for sign, text in _NOTES)])
    return _columns([s for s in sections if s], max(1, width // COLUMN_WIDTH), width)


def panel_rows(panel: Panel, keymap: Keymap, mode: str, width: int) -> list[Row]:
    """What `panel` shows, below the title it has now, and the keys that do something on it."""
    view = panel.painted_view
    title = EMPTY if view is None else panel.title(view)
    offered = {key.name: key for key in keymap.offered(mode)}
    keys: list[Row] = []
    for own in panel.own_keys:
        name, _, here = own.partition(": ")
        if name in offered:
            keys.append(_line(offered[name].shown, here or offered[name].help, "key"))
    text: list[Row] = [((line, "text"),) for line in wrapped(panel.about, min(width, _PROSE))]
    return [title, *text, EMPTY, *keys, *([EMPTY] if keys else [])]


def no_panel_rows(keymap: Keymap) -> list[Row]:
    """How to have the help begin with a panel."""
    text = f"{keymap.shown('next-panel')} chooses a panel; the help then begins with what it shows"
    return [((text, "dim"),), EMPTY]


def _key_section(head: str, keys: list[Key], offered: list[Key]) -> list[Row]:
    lines = [_line(key.shown, key.help, "key") for key in keys if key in offered]
    return [_head(head), *lines, EMPTY] if lines else []


def _head(text: str) -> Row:
    return ((text, "title"),)


def _line(left: str, right: str, role: str) -> Row:
    return (("  ", "text"), (f"{left:<{_KEY_WIDTH - 1}} ", role), (right, "text"))


def _columns(sections: list[list[Row]], count: int, width: int) -> list[Row]:
    """Sections in order, each whole, in `count` columns of about equal height."""
    target = -(-sum(map(len, sections)) // count)
    columns: list[list[Row]] = [[]]
    for section in sections:
        full = columns[-1] and len(columns[-1]) + len(section) // 2 > target
        if full and len(columns) < count:
            columns.append([])
        columns[-1] += section
    cell = width // count
    return [
        tuple(span for row in line for span in fit_row(row, cell))
        for line in zip_longest(*columns, fillvalue=EMPTY)
    ]
