"""Puts batches of events and what was made of them into a session file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from sqlite_utils import Database

from profiler.events import AnyEvent, kind_of
from profiler.folds.gpus import GpuSecond
from profiler.folds.request_view import RequestView
from profiler.folds.seconds import SecondRow
from profiler.session import schema
from profiler.session.columns import RowCodec, Value
from profiler.session.packed_gaps import pack_gaps

Numbered = tuple[int, AnyEvent]


class SessionWriter:
    """Owns a new file and its connection, both for one thread. Every method may raise sqlite3.Error
    or OSError, and the file is then as the last whole batch left it."""

    def __init__(self, path: Path) -> None:
        """Raises: FileExistsError, and OSError when the file cannot be made."""
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o600))
        self._path = path
        self._db = Database(path)
        self._db.enable_wal()
        self._db.execute("PRAGMA synchronous = NORMAL")
        schema.create(self._db)

    @property
    def num_bytes(self) -> int:
        """Of the file and its write-ahead log."""
        wal = self._path.with_name(self._path.name + "-wal")
        return self._path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)

    def facts(self, **facts: object) -> None:
        with self._db.atomic():
            self._insert("session", schema.FACTS.names, [[k, str(v)] for k, v in facts.items()])

    def batch(
        self,
        events: Iterable[Numbered],
        seconds: list[SecondRow],
        gpu_seconds: list[GpuSecond],
        requests: list[RequestView],
        keyframe: schema.KeyframeRow | None,
    ) -> None:
        """All of it, or on an error nothing."""
        with self._db.atomic():
            for kind, numbered in _by_kind(events).items():
                derived = schema.DERIVED.get(kind, {})
                names = ["seq", *schema.EVENT_CODECS[kind].names, *derived]
                self._insert(kind, names, _event_rows(kind, numbered))
            self._structs("step_1s", schema.SECONDS, seconds)
            self._structs("gpu_1s", schema.GPU_SECONDS, gpu_seconds)
            self._structs("request", schema.REQUESTS, map(_request_row, requests))
            self._structs("itl", schema.ITLS, map(_itl_row, requests))
            if keyframe is not None:
                self._structs("keyframe", schema.KEYFRAMES, [keyframe])

    def _structs(self, table: str, codec: RowCodec[Any], items: Iterable[Any]) -> None:
        self._insert(table, codec.names, map(codec.to_row, items))

    def _insert(self, table: str, names: list[str], rows: Iterable[list[Value]]) -> None:
        # executemany takes a fifth of the time of sqlite-utils' insert_all (1 against 5 us a row).
        # It lets go of the interpreter at each row: made one by one, rows keep no other thread
        # waiting for longer than one takes.
        self._db.conn.executemany(schema.insert_sql(table, names), rows)

    def finish(self, lost: int) -> None:
        """Fold the log into the file, so that one file is left, and close it."""
        self.facts(clean_end=1, lost=lost)
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._db.disable_wal()
        self._db.close()

    def abandon(self) -> None:
        """Close as it is, after an error."""
        self._db.close()


def _by_kind(events: Iterable[Numbered]) -> dict[str, list[Numbered]]:
    found: dict[str, list[Numbered]] = {}
    for seq, event in events:
        found.setdefault(kind_of(event), []).append((seq, event))
    return found


def _event_rows(kind: str, numbered: Iterable[Numbered]) -> Iterator[list[Value]]:
    codec, derived = schema.EVENT_CODECS[kind], schema.DERIVED.get(kind, {}).values()
    for seq, event in numbered:
        yield [seq, *codec.to_row(event), *(derive(event) for derive in derived)]


def _request_row(view: RequestView) -> schema.RequestRow:
    return msgspec.convert(view, schema.RequestRow, from_attributes=True)


def _itl_row(view: RequestView) -> schema.ItlRow:
    return schema.ItlRow(view.request, pack_gaps(view.itl_ns))
