"""What a spreadsheet gets: every row, the file's own columns, and nothing that it would run."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from profiler.errors import SessionFileError
from profiler.events import AnyEvent, RequestQueued, Step, decode_event
from profiler.session.lines import event_line
from profiler.session.packed_gaps import gaps_us, pack_gaps
from profiler.session.reader import SessionReader
from profiler.session.tables import column_names, harmless, table_cells, table_names

Record = Callable[[Path, list[AnyEvent]], Path]


@pytest.fixture(scope="module")
def events(workload: Any) -> list[AnyEvent]:
    made = workload(3, concurrency=6, num_pages=200, odd_share=0.2, step_ns=40_000_000)
    return list(made.events(300))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, events: list[AnyEvent], record: Record) -> Path:
    return record(tmp_path_factory.mktemp("tables") / "s.db", events)


@pytest.fixture
def reader(path: Path) -> Any:
    reader = SessionReader(path)
    yield reader
    reader.close()


def test_every_table_but_the_states_has_all_its_rows(reader: SessionReader, path: Path) -> None:
    with sqlite3.connect(path) as db:
        held = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        assert set(table_names(reader)) == held - {"keyframe"}
        for table in table_names(reader):
            (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
            rows = list(table_cells(reader, table))
            assert len(rows) == count
            columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
            assert column_names(table) == columns
            assert all(len(row) == len(columns) for row in rows)


def test_packed_columns_come_out_as_what_was_put_in(
    reader: SessionReader, events: list[AnyEvent]
) -> None:
    at = column_names("step").index("rows")
    cells = [json.loads(str(row[at])) for row in table_cells(reader, "step")]
    steps = [event for event in events if isinstance(event, Step)]
    assert cells == [list(msgspec.to_builtins(step.rows)) for step in steps]
    assert any(cells)


def test_gaps_come_out_in_whole_microseconds() -> None:
    assert gaps_us(pack_gaps([1_999, 5_000_000, 1 << 60])).tolist() == [1, 5000, (1 << 32) - 1]
    with pytest.raises(ValueError):
        gaps_us(b"\x01\x00\x00")


def test_what_is_not_known_is_an_empty_cell(reader: SessionReader) -> None:
    names = column_names("request")
    rows = [dict(zip(names, row, strict=True)) for row in table_cells(reader, "request")]
    unscheduled = [row for row in rows if row["t_first_ns"] == ""]
    assert all(row["num_output_tokens"] == 0 for row in unscheduled)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\nx", "\uff1dx"])
def test_a_formula_is_only_text(text: str, tmp_path: Path, record: Record) -> None:
    assert harmless(text) == f"'{text}"
    path = record(tmp_path / "s.db", [RequestQueued(5, 1, text, 1, 1)])
    reader = SessionReader(path)
    (row,) = table_cells(reader, "request_queued")
    reader.close()
    assert row[column_names("request_queued").index("name")] == f"'{text}"


@pytest.mark.parametrize("text", ["", "cmpl-1", "a=b", " =1"])
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert harmless(text) == text


def test_a_line_is_the_event_and_its_number(events: list[AnyEvent]) -> None:
    for seq, event in enumerate(events, 1):
        line = event_line(seq, event)
        assert line.endswith(b"}\n") and line.count(b"\n") == 1
        assert json.loads(line)["seq"] == seq
        assert decode_event(line) == event


def test_a_damaged_row_is_told_in_one_line(tmp_path: Path, record: Record, path: Path) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(path.read_bytes())
    with sqlite3.connect(broken) as db:
        db.execute("UPDATE itl SET gaps_us = x'010203'")
    db.close()
    reader = SessionReader(broken)
    with pytest.raises(SessionFileError, match=r"broken\.db cannot be read"):
        list(table_cells(reader, "itl"))
    reader.close()
