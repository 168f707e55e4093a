"""The tables of a session file as text that a spreadsheet can read.

Every table is there but `keyframe`, whose states are the program's own. Columns are the file's,
in its order. A packed list is written as JSON, "not known" as nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from profiler.session import schema
from profiler.session.columns import RowCodec
from profiler.session.opening import damaged
from profiler.session.packed_gaps import gaps_us
from profiler.session.reader import SessionReader

# A spreadsheet runs a cell that begins with one of these, or with its full-width twin, whoever
# wrote it.
# Source: OWASP, "CSV Injection".
_RUNS_AS_FORMULA: Final = (*"=+-@\t\r\n", *"\uff1d\uff0b\uff0d\uff20")
Cell = str | int | float
_ToCell = Callable[[Any], Cell]

_CODECS: Final[dict[str, RowCodec[Any]]] = schema.EVENT_CODECS | {
    name: codec for name, codec, _ in schema.OTHERS if codec is not schema.KEYFRAMES
}


def table_names(reader: SessionReader) -> list[str]:
    """Those that this file has, events first."""
    held = {name for (name,) in reader.query("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return [name for name in _CODECS if name in held]


def column_names(table: str) -> list[str]:
    """Raises: KeyError when a session has no such table."""
    names = _CODECS[table].names
    if table in schema.EVENT_CODECS:
        return ["seq", *names, *schema.DERIVED.get(table, {})]
    return names


def table_cells(reader: SessionReader, table: str) -> Iterator[list[Cell]]:
    """The table's rows as they were written, values as `column_names` names them.

    Raises: SessionFileError where the file is damaged.
    """
    names = column_names(table)
    to_cells = [_to_cell(table, name) for name in names]
    columns = ", ".join(f'"{name}"' for name in names)
    for row in reader.query(f'SELECT {columns} FROM "{table}" ORDER BY rowid'):
        try:
            cells = [
                "" if v is None else to_cell(v) for to_cell, v in zip(to_cells, row, strict=True)
            ]
        except ValueError as error:  # msgspec's is one
            raise damaged(reader.path, error) from None
        yield cells


def _to_cell(table: str, name: str) -> _ToCell:
    column = next((c for c in _CODECS[table].columns if c.name == name), None)
    if column is None or column.sql_type in (int, float):
        return _number
    if column.sql_type is str:
        return harmless
    unpack = column.out or _gaps
    return lambda packed: msgspec.json.encode(unpack(packed)).decode()


def _number(value: int | float) -> Cell:
    return value


def _gaps(packed: bytes) -> list[int]:
    return gaps_us(packed).tolist()


def harmless(text: str) -> str:
    """`text` with an apostrophe before what a spreadsheet would run as a formula."""
    return f"'{text}" if text.startswith(_RUNS_AS_FORMULA) else text
