"""The session file: which tables it has and how to tell that a file is one.

One table a kind of event, named as the kind, with the event's fields as columns behind `seq`, the
event's number in the stream. `seq` is the key rather than the time, since two events may share a
nanosecond. Two have columns for people beside the packed ones: `step` the sums of its rows,
prefill_tokens and new_tokens, and `page_delta` its evicted_pages.
Beside them

    session    facts by name: when and where it was recorded, `clean_end`, what was lost
    keyframe   the whole state after event `seq`, every few seconds: a seek begins at one
    step_1s    one row a second, gpu_1s one row a second and device: charts over hours. In a session
               kept out of a ring up to 300 of them are older than its start: its first findings
               are proved by them, readers leave them out
    request    one row a request that ended, with its stamps
    itl        its inter-token latencies, microseconds, 4 bytes each, little-endian
    bookmark   places that a viewer marked; there from the first of them on
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from sqlite_utils import Database

from profiler.events import EVENT_BY_KIND, Event
from profiler.folds.gpus import GpuSecond
from profiler.folds.seconds import SecondRow
from profiler.session.columns import Column, RowCodec

APPLICATION_ID: Final = 0x6C6C6D74  # "llmt"
USER_VERSION: Final = 1


class RequestRow(msgspec.Struct, frozen=True):
    """A request that ended, for people who ask in SQL; replay does not need it."""

    request: int
    name: str
    t_queued_ns: int
    t_scheduled_ns: int | None
    t_first_ns: int | None
    t_last_ns: int | None
    t_done_ns: int
    num_prompt_tokens: int | None
    cached_tokens: int | None
    num_output_tokens: int
    finish_reason: str
    preemptions: int


class ItlRow(msgspec.Struct, frozen=True):
    request: int
    gaps_us: bytes


class KeyframeRow(msgspec.Struct, frozen=True):
    seq: int
    t_ns: int
    state: bytes


class FactRow(msgspec.Struct, frozen=True):
    key: str
    value: str


EVENT_CODECS: Final[dict[str, RowCodec[Any]]] = {
    kind: RowCodec[Event](event) for kind, event in EVENT_BY_KIND.items()
}
# Kinds that came after the first release: files from before have no table of them.
LATER_KINDS: Final = frozenset(
    {
        "finding",
        "kernel_window",
        "client_behind",
        "request_forwarded",
        "tokens_received",
        "request_answered",
        "observer_cost",
        "metrics_sample",
        "target_state",
        "block_map_begin",
        "block_delta",
    }
)
# Columns for people alone: readers take the event's own.
DERIVED: Final[dict[str, dict[str, Callable[[Any], int]]]] = {
    "step": {
        "prefill_tokens": lambda step: sum(row.prefill_tokens for row in step.rows),
        "new_tokens": lambda step: sum(row.new_tokens for row in step.rows),
    },
    "page_delta": {
        "evicted_pages": lambda delta: sum(run.count for run in delta.runs if run.op == "evict"),
    },
}
KEYFRAMES: Final = RowCodec(KeyframeRow)
FACTS: Final = RowCodec(FactRow)
REQUESTS: Final = RowCodec(RequestRow)
ITLS: Final = RowCodec(ItlRow)
SECONDS: Final = RowCodec(SecondRow)
GPU_SECONDS: Final = RowCodec(GpuSecond)
OTHERS: Final[tuple[tuple[str, RowCodec[Any], str | tuple[str, str]], ...]] = (
    ("session", FACTS, "key"),
    ("keyframe", KEYFRAMES, "seq"),
    ("step_1s", SECONDS, "second"),
    ("gpu_1s", GPU_SECONDS, ("second", "device")),
    ("request", REQUESTS, "request"),
    ("itl", ITLS, "request"),
)


def create(db: Database) -> None:
    """All tables, in an empty file."""
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {USER_VERSION}")
    with db.atomic():
        for kind, codec in EVENT_CODECS.items():
            _create(db, kind, codec.columns, "seq", ["seq"], list(DERIVED.get(kind, ())))
        for name, codec, key in OTHERS:
            _create(db, name, codec.columns, key, [], [])


def _create(
    db: Database,
    name: str,
    columns: list[Column],
    key: str | tuple[str, str],
    before: list[str],
    after: list[str],
) -> None:
    """A table of `columns` with integers before and after them."""
    own = {column.name: column.sql_type for column in columns}
    sql_types = dict.fromkeys(before, int) | own | dict.fromkeys(after, int)
    required = {column.name for column in columns if not column.nullable} | {*before, *after}
    db.table(name).create(sql_types, pk=key, not_null=required, strict=True)


def insert_sql(table: str, names: list[str]) -> str:
    marks = ", ".join("?" * len(names))
    quoted = ", ".join(f'"{name}"' for name in names)
    return f'INSERT OR REPLACE INTO "{table}" ({quoted}) VALUES ({marks})'
