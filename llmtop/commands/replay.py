from __future__ import annotations

import click

from llmtop.commands.base import LlmtopCommand


@click.command(
    "replay",
    cls=LlmtopCommand,
    examples=(
        "llmtop replay                        # the newest session",
        "llmtop replay 20260301-1412          # the one whose name begins so",
        "llmtop replay ./session.db --at 1:30 --speed 4",
    ),
)
@click.argument("session", default="latest")
@click.option("--at", help="Begin there: 90s, 1:30 or 50%.")
@click.option(
    "--speed", type=click.FloatRange(0.25, 16), default=1.0, show_default=True, help="Times real."
)
def command(session: str, at: str | None, speed: float) -> int:
    """Watch a recorded session.

    SESSION is a file, the beginning of a name that `llmtop sessions` shows, or latest.
    """
    from llmtop.commands.session_files import find_session
    from llmtop.commands.watching import watch
    from llmtop.paths import sessions_dir

    path = find_session(session, sessions_dir())
    from llmtop.sources.replay import ReplaySource

    return watch(ReplaySource(path, at=at, speed=speed))
