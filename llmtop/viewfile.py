"""What the current view shows, as rows in a file: filtered and sorted as the viewer has it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from llmtop.columns import FIELDS
from llmtop.errors import LlmtopError
from llmtop.journal import journal
from llmtop.outfile import new_file
from llmtop.viewmodel import View
from llmtop.widgets.loglines import matching
from profiler.folds.request_view import RequestView
from profiler.session.tables import harmless

FORMS: Final = ("csv", "json")
Rows = list[dict[str, Any]]


class ViewRows(msgspec.Struct, frozen=True):
    """`t_ns` is the picture's instant on the host's monotonic clock, `wall_ns` its Unix time."""

    page: str
    t_ns: int
    wall_ns: int | None
    rows: Rows


def save_view(view: View, form: str, folder: Path) -> Path:
    """The file, new in `folder`. Raises: LlmtopError when it cannot be written."""
    name, rows = rows_of(view)
    if form == "csv":
        data = _as_csv(rows)
    else:
        found = ViewRows(name, view.state.t_ns, view.wall_ns, rows)
        data = msgspec.json.format(msgspec.json.encode(found), indent=1)
    return save_new(folder, f"{name}.{form}", data)


def save_new(folder: Path, name: str, data: bytes) -> Path:
    """A file for its owner alone, named by the time and `name`. Raises: LlmtopError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LlmtopError(f"cannot write into {folder}: {error.strerror}") from None
    path = folder / f"{datetime.now():%Y%m%d-%H%M%S-%f}-{name}"
    with new_file(path) as out:
        out.write(data)
    return path


def rows_of(view: View) -> tuple[str, Rows]:
    """What the rows are of, and the rows; every row has the same keys, None is "not known"."""
    if view.model.detail and view.request is not None:
        return f"request-{view.request.request}", _tokens(view.request)
    page = view.model.page
    return page, _ROWS.get(page, _seconds)(view)


def _seconds(view: View) -> Rows:
    return [msgspec.structs.asdict(row) for row in view.state.seconds.rows]


def _gpu_seconds(view: View) -> Rows:
    return [msgspec.structs.asdict(row) for row in view.state.seconds.gpu_rows]


def _requests(view: View) -> Rows:
    t_ns = view.state.t_ns
    return [
        {"request": r.request} | {name: field.value(r, t_ns) for name, field in FIELDS.items()}
        for r in view.model.table(view.state)
    ]


def _tokens(request: RequestView) -> Rows:
    """One row a token whose step is still known; the gap is None before the first."""
    rows: Rows = []
    times, steps = request.token_times, request.token_steps
    before_ns: int | None = None
    for number, (step, t_ns) in enumerate(zip(steps, times, strict=True), 1):
        gap_ns = None if before_ns is None else t_ns - before_ns
        rows.append({"token": number, "step": step, "t_ns": t_ns, "since_last_token_ns": gap_ns})
        before_ns = t_ns
    return rows


def _pages(view: View) -> Rows:
    pages = view.state.pages
    return [
        {
            "page": page,
            "state": pages.state(page),
            "owner": pages.owners[page],
            "refs": pages.refs[page],
            "sealed": bool(pages.sealed_flags[page]),
        }
        for page in range(pages.num_pages)
    ]


def _log(view: View) -> Rows:
    lines = matching(journal(view.state), view.model)
    return [msgspec.structs.asdict(line) for line in lines]


_ROWS: Final[dict[str, Callable[[View], Rows]]] = {
    "requests": _requests,
    "kv": _pages,
    "gpu": _gpu_seconds,
    "log": _log,
}


def _as_csv(rows: Rows) -> bytes:
    text = io.StringIO(newline="")
    if rows:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    return harmless(value) if isinstance(value, str) else value
