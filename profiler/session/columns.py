"""How a struct lies in a table: one column a field, so that plain SQL can ask for it.

Numbers and words are columns of their own type. What is nested (a step's rows, page runs, the
configuration) is JSON text, which SQLite's json_each can take apart.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

S = TypeVar("S", bound=msgspec.Struct)
Value = int | float | str | bytes | None
_PLAIN: Final[dict[object, type]] = {int: int, float: float, str: str, bool: int, bytes: bytes}


class Column:
    """One field: its SQL type as Python's, and how a value goes in and comes out."""

    def __init__(self, name: str, hint: object) -> None:
        inner = _without_none(hint)
        self.name = name
        self.nullable = inner is not hint
        self.is_json = inner not in _PLAIN
        self.sql_type: type = _PLAIN.get(inner, str)
        self.out: Callable[[Any], object] | None = None
        if self.is_json:
            self.out = msgspec.json.Decoder(hint).decode
        elif inner is bool:
            self.out = bool


def _without_none(hint: object) -> object:
    """The T of `T | None`; anything else as it is."""
    if get_origin(hint) in (Union, types.UnionType):
        rest = [arg for arg in get_args(hint) if arg is not type(None)]
        if len(rest) == 1:
            return rest[0]
    return hint


class RowCodec(Generic[S]):
    """Between structs of one type and rows whose values are in the order of `names`."""

    def __init__(self, kind: type[S]) -> None:
        self._kind = kind
        hints = get_type_hints(kind)
        self.columns = [Column(f.name, hints[f.name]) for f in msgspec.structs.fields(kind)]
        self.names = [column.name for column in self.columns]
        self._outs = [(i, c.out) for i, c in enumerate(self.columns) if c.out is not None]
        self._json = {i for i, c in enumerate(self.columns) if c.is_json}

    def to_row(self, item: S) -> list[Value]:
        row = [getattr(item, name) for name in self.names]
        for i in self._json:
            row[i] = msgspec.json.encode(row[i]).decode()
        return row

    def from_row(self, row: Sequence[Any]) -> S:
        """Raises: msgspec.MsgspecError when a value is not of its field's type."""
        values = list(row)
        for i, out in self._outs:
            if values[i] is not None:
                values[i] = out(values[i])
        if self._kind.__struct_config__.array_like:
            return msgspec.convert(values, self._kind)
        return msgspec.convert(dict(zip(self.names, values, strict=True)), self._kind)

    def from_rows(self, rows: Iterable[Sequence[Any]]) -> list[S]:
        return [self.from_row(row) for row in rows]
