"""How a struct lies in a table: one column a field, so that plain SQL can ask for it.

Numbers and words are columns of their own type. Lists of small structs (a step's rows, page runs)
are packed, see `packed`; anything else that is nested is JSON text.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from profiler.session.packed import Packer

S = TypeVar("S", bound=msgspec.Struct)
Value = int | float | str | bytes | None
_PLAIN: Final[dict[object, type]] = {int: int, float: float, str: str, bool: int, bytes: bytes}


class Column:
    """One field: its SQL type as Python's, and how a value goes in and comes out where it changes
    on the way."""

    def __init__(self, name: str, hint: object) -> None:
        inner = _without_none(hint)
        self.name = name
        self.nullable = inner is not hint
        self.sql_type: type = _PLAIN.get(inner, str)
        self.into: Callable[[Any], Value] | None = None
        self.out: Callable[[Any], object] | None = None
        if inner is bool:
            self.out = bool
        elif get_origin(inner) is tuple:
            packer: Packer[Any] = Packer(get_args(inner)[0])
            self.sql_type, self.into, self.out = bytes, packer.pack, packer.unpack
        elif inner not in _PLAIN:
            self.into, self.out = _to_json, msgspec.json.Decoder(hint).decode


def _to_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


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
        self._defaults = {f.name: f.default for f in msgspec.structs.fields(kind)}
        self._outs = [(i, c.out) for i, c in enumerate(self.columns) if c.out is not None]
        self._intos = [(i, c.into) for i, c in enumerate(self.columns) if c.into is not None]

    def to_row(self, item: S) -> list[Value]:
        row = [getattr(item, name) for name in self.names]
        for i, into in self._intos:
            if row[i] is not None:
                row[i] = into(row[i])
        return row

    def selection(self, existing: Collection[str]) -> str:
        """The SQL list of all columns in order, for a table that has only the `existing` ones: a
        field that came later reads as its default. Raises: ValueError if it has none."""
        return ", ".join(
            f'"{name}"' if name in existing else f'{self._default_sql(name)} AS "{name}"'
            for name in self.names
        )

    def _default_sql(self, name: str) -> str:
        default = self._defaults[name]
        if default is None:
            return "NULL"
        if isinstance(default, int | float):
            return repr(default)
        if default == "":
            return "''"
        if default == ():
            return "x'00000000'"  # packed, an empty list
        raise ValueError(f"there is no column {name}")

    def from_row(self, row: Sequence[Any]) -> S:
        """Raises: ValueError (msgspec's is one) when a value is not of its field's type."""
        values = list(row)
        for i, out in self._outs:
            if values[i] is not None:
                values[i] = out(values[i])
        if self._kind.__struct_config__.array_like:
            return msgspec.convert(values, self._kind)
        return msgspec.convert(dict(zip(self.names, values, strict=True)), self._kind)

    def from_rows(self, rows: Iterable[Sequence[Any]]) -> list[S]:
        return [self.from_row(row) for row in rows]
