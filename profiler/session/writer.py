"""Puts batches of events and what was made of them into a session file."""

from __future__ import annotations

import os
from collections.abc import Iterable
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
        events: Iterable[tuple[int, AnyEvent]],
        seconds: list[SecondRow],
        gpu_seconds: list[GpuSecond],
        requests: list[RequestView],
        keyframe: schema.KeyframeRow | None,
    ) -> None:
        """All of it, or on an error nothing."""
        with self._db.atomic():
            for kind, rows in _by_kind(events).items():
                derived = schema.DERIVED.get(kind, {})
                self._insert(kind, ["seq", *schema.EVENT_CODECS[kind].names, *derived], rows)
            self._structs("step_1s", schema.SECONDS, seconds)
            self._structs("gpu_1s", schema.GPU_SECONDS, gpu_seconds)
            self._structs("request", schema.REQUESTS, [_request_row(r) for r in requests])
            self._structs("itl", schema.ITLS, [_itl_row(r) for r in requests])
            if keyframe is not None:
                self._structs("keyframe", schema.KEYFRAMES, [keyframe])

    def _structs(self, table: str, codec: RowCodec[Any], items: list[Any]) -> None:
        if items:
            self._insert(table, codec.names, [codec.to_row(item) for item in items])

    def _insert(self, table: str, names: list[str], rows: list[list[Value]]) -> None:
        # executemany takes a fifth of the time of sqlite-utils' insert_all (1 against 5 us a row).
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


def _by_kind(events: Iterable[tuple[int, AnyEvent]]) -> dict[str, list[list[Value]]]:
    rows: dict[str, list[list[Value]]] = {}
    for seq, event in events:
        kind = kind_of(event)
        row = [seq, *schema.EVENT_CODECS[kind].to_row(event)]
        row += [derive(event) for derive in schema.DERIVED.get(kind, {}).values()]
        rows.setdefault(kind, []).append(row)
    return rows


def _request_row(view: RequestView) -> schema.RequestRow:
    return msgspec.convert(view, schema.RequestRow, from_attributes=True)


def _itl_row(view: RequestView) -> schema.ItlRow:
    return schema.ItlRow(view.request, pack_gaps(view.itl_ns))
