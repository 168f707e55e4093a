from __future__ import annotations

from pathlib import Path

import click

from llmtop.commands.base import LlmtopCommand
from llmtop.commands.completing import sessions


@click.command(
    "report",
    cls=LlmtopCommand,
    examples=(
        "llmtop report                        # the newest session",
        "llmtop report session.db -o report.md",
        "llmtop report 20260301-1412 | gh pr comment 7 --body-file -",
    ),
)
@click.argument("session", default="latest", shell_complete=sessions)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to.  [default: standard output]",
)
@click.option("--force", is_flag=True, help="Replace what is there.")
def command(session: str, output: Path | None, force: bool) -> None:
    """Write the numbers of a recorded session as Markdown.

    SESSION is a file, the beginning of a name that `llmtop sessions` shows, or latest. The report
    names machine, model, settings and workload, and gives latencies, throughput, the KV cache and
    the slowest requests. What is not known is written as --.
    """
    from llmtop.commands.session_files import find_session
    from llmtop.outfile import new_file, refuse_source
    from llmtop.paths import sessions_dir
    from profiler.markdown import markdown
    from profiler.report import report_of
    from profiler.session.reader import SessionReader

    path = find_session(session, sessions_dir())
    if output is not None:
        refuse_source(output, path)
    reader = SessionReader(path)
    try:
        text = markdown(report_of(reader))
    finally:
        reader.close()
    if output is None:
        return click.echo(text, nl=False)
    with new_file(output, force) as out:
        out.write(text.encode())
    click.echo(f"wrote {output}", err=True)
