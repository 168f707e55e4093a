from __future__ import annotations

from typing import TYPE_CHECKING

import click

from llmtop.commands.base import LlmtopCommand
from llmtop.commands.number import Number

if TYPE_CHECKING:
    from profiler.session.listing import SessionInfo


@click.command(
    "sessions",
    cls=LlmtopCommand,
    examples=(
        "llmtop sessions",
        "llmtop sessions --json | jq '.[-1].path'",
        "llmtop sessions --prune 30     # remove those older than 30 days, after a question",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
@click.option(
    "--prune",
    "older_than_days",
    type=Number(min=0),
    metavar="DAYS",
    help="Remove the recordings that nothing was written to for so many days; one under way stays.",
)
@click.option("--yes", is_flag=True, help="With --prune: do not ask.")
def command(as_json: bool, older_than_days: float | None, yes: bool) -> None:
    """List the recorded sessions.

    Oldest first. The last column says how the recording ended: "closed" in order, "not closed" when
    its server was killed or still runs. Both can be replayed.
    """
    from llmtop.paths import sessions_dir
    from profiler.session.listing import list_sessions

    if older_than_days is not None:
        return _prune(older_than_days, yes)
    found = list_sessions(sessions_dir())
    if as_json:
        return _print_json(found)
    if not found:
        click.echo(f"no session in {sessions_dir()}; llmtop serve records one", err=True)
        return
    for line in _table(found):
        click.echo(line)


def _table(found: list[SessionInfo]) -> list[str]:
    rows: list[tuple[str, ...]] = [("name", "began", "model", "lasted", "requests", "size", "end")]
    rows += [_row(info) for info in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _row(info: SessionInfo) -> tuple[str, ...]:
    from llmtop.format import NONE, clock, moment, size
    from llmtop.sanitize import clean_line

    name = clean_line(info.path.stem)
    if info.problem:
        return (name, NONE, NONE, NONE, NONE, size(info.num_bytes), clean_line(info.problem))
    return (
        name,
        moment(info.wall_ns),
        clean_line(info.model) or NONE,
        clock(info.duration_ns),
        str(info.num_requests),
        size(info.num_bytes),
        "closed" if info.clean_end else "not closed",
    )


def _print_json(found: list[SessionInfo]) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(found, enc_hook=str), indent=2))


def _prune(older_than_days: float, yes: bool) -> None:
    from llmtop.commands.session_files import files_of, is_under_way, session_files, untouched_days
    from llmtop.format import size
    from llmtop.paths import sessions_dir

    old = [p for p in session_files(sessions_dir()) if untouched_days(p) > older_than_days]
    chosen = [path for path in old if not is_under_way(path)]
    for path in old:
        if path not in chosen:
            click.echo(f"{path.stem} is being recorded and stays", err=True)
    num_bytes = sum(file.stat().st_size for path in chosen for file in files_of(path))
    if not chosen:
        click.echo("nothing to remove", err=True)
        return
    what = f"{len(chosen)} session{'s' if len(chosen) > 1 else ''}, {size(num_bytes)}"
    if not yes:
        click.confirm(f"Remove {what}?", abort=True, err=True)
    for path in chosen:
        for file in files_of(path):
            file.unlink(missing_ok=True)
    click.echo(f"removed {what}")
