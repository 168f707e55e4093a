from __future__ import annotations

from typing import TYPE_CHECKING

import click

from llmtop.commands.base import LlmtopCommand
from llmtop.commands.completing import sessions
from llmtop.commands.judging import fail_if_option, gate, slo_option, viewer_alarm
from llmtop.commands.number import Number
from llmtop.commands.once_options import check_once, once_options, print_once
from llmtop.commands.viewing_options import viewing_options
from llmtop.viewing import Viewing

if TYPE_CHECKING:
    from profiler.conditions import Condition


@click.command(
    "replay",
    cls=LlmtopCommand,
    examples=(
        "llmtop replay                        # the newest session",
        "llmtop replay 20260301-1412          # the one whose name begins so",
        "llmtop replay ./session.db --at 1:30 --speed 4",
        "llmtop replay latest --once --json   # where it ended, as a document",
    ),
)
@click.argument("session", default="latest", shell_complete=sessions)
@click.option("--at", help="Begin there: 90s, 1:30 or 50%.")
@click.option("--speed", type=Number(0.25, 16), default=1.0, show_default=True, help="Times real.")
@slo_option("Hold it to these objectives, rather than to those it was recorded with.")
@fail_if_option()
@viewing_options
@once_options
def command(
    session: str,
    at: str | None,
    speed: float,
    slo: tuple[Condition, ...] | None,
    fail_if: tuple[Condition, ...],
    privacy: bool,
    readonly: bool,
    ascii: bool,
    slow: bool,
    once: bool,
    as_json: bool,
    plain: bool,
) -> int:
    """Watch a recorded session.

    SESSION is a file, the beginning of a name that `llmtop sessions` shows, or latest. `--once`
    prints where it ended, or what it was like at `--at`.
    """
    check_once(once, as_json, plain)
    from llmtop.commands.session_files import find_session
    from llmtop.commands.watching import watch
    from llmtop.paths import sessions_dir

    path = find_session(session, sessions_dir())
    from llmtop.sources.replay import ReplaySource

    if once:
        source = ReplaySource(path, at=at or "100%")
        source.toggle()
        code = print_once(source, as_json, privacy)
    else:
        source = ReplaySource(path, at=at, speed=speed)
        viewing = Viewing(privacy, readonly, ascii=ascii, slow=slow)
        code = watch(source, alarm=viewer_alarm(slo, None), viewing=viewing)
    if not fail_if:
        return code
    from profiler.session.summary import session_values

    return gate(fail_if, session_values(path, slo), code)
