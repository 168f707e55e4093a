from __future__ import annotations

from typing import TYPE_CHECKING

import click

from llmtop.commands.base import LlmtopCommand
from llmtop.commands.completing import sessions
from llmtop.commands.judging import fail_if_option, gate, slo_option

if TYPE_CHECKING:
    from profiler.conditions import Condition


@click.command(
    "explain",
    cls=LlmtopCommand,
    examples=(
        "llmtop explain                                  # the newest session",
        "llmtop explain ./session.db --slo guidellm-chat",
        "llmtop explain ./session.db --json | jq '.findings[].text'",
        "llmtop explain ./session.db --fail-if 'ttft_p99>500ms' --fail-if 'preemptions>0'",
    ),
)
@click.argument("session", default="latest", shell_complete=sessions)
@slo_option("Hold it to these objectives, rather than to those it was recorded with.")
@fail_if_option()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def command(
    session: str,
    slo: tuple[Condition, ...] | None,
    fail_if: tuple[Condition, ...],
    as_json: bool,
) -> int:
    """Say what happened in a recorded session, and why.

    Each finding comes with its numbers and the SQL that gives them out of the file. SESSION is a
    file, the beginning of a name that `llmtop sessions` shows, or latest.
    """
    from llmtop.commands.session_files import find_session
    from llmtop.explained import explain, text_of
    from llmtop.paths import sessions_dir

    path = find_session(session, sessions_dir())
    explained = explain(path, slo)
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(explained), indent=2))
    else:
        click.echo(text_of(explained))
    if not fail_if:
        return 0
    from profiler.session.summary import session_values

    return gate(fail_if, session_values(path, slo))
