from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from llmtop.commands.base import LlmtopCommand
from llmtop.commands.completing import sessions

# What is appended to the session's name where -o names no file.
SUFFIXES: Final = {
    "perfetto": ".perfetto.json",
    "csv": "-csv",
    "json": ".ndjson",
    "html": ".html",
}


@click.command(
    "export",
    cls=LlmtopCommand,
    examples=(
        "llmtop export latest --perfetto            # open it at ui.perfetto.dev",
        "llmtop export session.db --csv -o tables   # a folder, one file a table",
        "llmtop export session.db --csv --table request -o - | head",
        "llmtop export session.db --json -o - | jq 'select(.kind == \"request_preempted\")'",
        "llmtop export 20260301-1412 --html -o run.html",
    ),
)
@click.argument("session", shell_complete=sessions)
@click.option("--perfetto", is_flag=True, help="A trace: requests, steps, counters, log.")
@click.option("--csv", is_flag=True, help="A folder with one file a table.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, one line an event.")
@click.option("--html", is_flag=True, help="One page with numbers and plots, to pass on.")
@click.option("--table", metavar="NAME", help="With --csv: this table alone, into a file.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Where to; - for standard output.  [default: here, named as the session]",
)
@click.option("--force", is_flag=True, help="Replace what is there.")
def command(
    session: str,
    perfetto: bool,
    csv: bool,
    as_json: bool,
    html: bool,
    table: str | None,
    output: Path | None,
    force: bool,
) -> None:
    """Write a recorded session for other programs.

    SESSION is a file, the beginning of a name that `llmtop sessions` shows, or latest. What is
    written is for its owner alone (mode 0600) and appears whole or not at all.
    """
    flags = {"perfetto": perfetto, "csv": csv, "json": as_json, "html": html}
    chosen = [name for name, given in flags.items() if given]
    if len(chosen) != 1:
        raise click.UsageError("choose one of --perfetto, --csv, --json, --html")
    if table is not None and not csv:
        raise click.UsageError("--table needs --csv")
    if csv and table is None and output == Path("-"):
        raise click.UsageError("--csv writes a folder; with --table it can go to standard output")
    from llmtop.commands.exporting import export
    from llmtop.commands.session_files import find_session
    from llmtop.paths import sessions_dir

    path = find_session(session, sessions_dir())
    suffix = SUFFIXES[chosen[0]] if table is None else f".{table}.csv"
    export(path, chosen[0], table, output or Path(path.stem + suffix), force)
