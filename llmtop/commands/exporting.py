"""Writes a session in one of the formats, and shows how far it is."""

from __future__ import annotations

import csv
import io
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Final

import click

from llmtop.errors import LlmtopError
from llmtop.outfile import new_file, new_folder, refuse_source
from profiler.events import AnyEvent
from profiler.html import html_page
from profiler.report import report_of
from profiler.session.lines import event_line
from profiler.session.reader import SessionReader
from profiler.session.tables import column_names, table_cells, table_names
from profiler.trace import trace_document

STDOUT: Final = Path("-")
_BAR_STEP: Final = 1000

Out = IO[bytes]


def export(session: Path, form: str, table: str | None, output: Path, force: bool) -> None:
    """Raises: LlmtopError, SessionFileError."""
    refuse_source(output, session)
    reader = SessionReader(session)
    try:
        with _stopped_cleanly():
            if table is not None:
                _check_table(reader, table)
                _one_file(output, force, lambda out: _write_table(reader, table, out))
            elif form == "csv":
                _tables(reader, output, force)
            else:
                _one_file(output, force, lambda out: _WRITERS[form](reader, out))
    finally:
        reader.close()


def _one_file(output: Path, force: bool, write: Callable[[Out], None]) -> None:
    if output == STDOUT:
        if sys.stdout.isatty():
            raise LlmtopError("standard output is a terminal", "name a file with -o, or use a pipe")
        write(sys.stdout.buffer)
        sys.stdout.flush()
        return
    with new_file(output, force) as out:
        write(out)
    click.echo(f"wrote {output}", err=True)


def _tables(reader: SessionReader, output: Path, force: bool) -> None:
    with new_folder(output, force) as folder:
        for table in table_names(reader):
            with new_file(folder / f"{table}.csv") as out:
                _write_table(reader, table, out)
    click.echo(f"wrote {output}, one file a table", err=True)


def _check_table(reader: SessionReader, table: str) -> None:
    names = table_names(reader)
    if table not in names:
        near = get_close_matches(table, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        raise LlmtopError(f"the session has no table {table}", hint)


def _write_table(reader: SessionReader, table: str, out: Out) -> None:
    ((num_rows,),) = reader.query(f'SELECT count(*) FROM "{table}"')
    text = io.TextIOWrapper(out, encoding="utf-8", newline="")
    try:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(column_names(table))
        with _progress(table, num_rows) as advance:
            for cells in table_cells(reader, table):
                writer.writerow(cells)
                advance()
    finally:
        text.detach()


def _write_lines(reader: SessionReader, out: Out) -> None:
    with _progress("events", reader.last_seq) as advance:
        for seq, event in reader.events():
            out.write(event_line(seq, event))
            advance()


def _write_trace(reader: SessionReader, out: Out) -> None:
    with _progress("events", reader.last_seq) as advance:

        def events() -> Iterator[AnyEvent]:
            for _, event in reader.events():
                advance()
                yield event

        facts = {"session": reader.path.name, "began": _began(reader)}
        for piece in trace_document(events(), reader.start_ns, reader.end_ns, {**facts}):
            out.write(piece)


def _write_page(reader: SessionReader, out: Out) -> None:
    out.write(html_page(report_of(reader), reader).encode())


_WRITERS: Final[dict[str, Callable[[SessionReader, Out], None]]] = {
    "perfetto": _write_trace,
    "json": _write_lines,
    "html": _write_page,
}


def _began(reader: SessionReader) -> str:
    """When the recording begins, in UTC."""
    return datetime.fromtimestamp(reader.wall_ns / 1e9, UTC).isoformat(timespec="milliseconds")


@contextmanager
def _progress(label: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error if that is a terminal; what is yielded moves it by one."""
    hidden = not sys.stderr.isatty()
    with click.progressbar(
        length=total, label=label, file=sys.stderr, hidden=hidden, update_min_steps=_BAR_STEP
    ) as bar:
        yield lambda: bar.update(1)


@contextmanager
def _stopped_cleanly() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, so that no half file stays behind."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, _interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
