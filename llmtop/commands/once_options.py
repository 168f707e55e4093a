"""`--once`, `--json` and `--plain`: options of the commands that watch something."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from llmtop.commands.exclusion import exclude

if TYPE_CHECKING:
    from llmtop.sources.base import Source

Command = TypeVar("Command", bound=Callable[..., Any])


def once_options(command: Command) -> Command:
    """Adds the three as the parameters `once`, `as_json` and `plain`."""
    for option in (
        click.option("--plain", is_flag=True, help="With --once: a line a field (the default)."),
        click.option("--json", "as_json", is_flag=True, help="With --once: one JSON document."),
        click.option("--once", is_flag=True, help="Print one snapshot and leave."),
    ):
        command = option(command)
    return command


def check_once(once: bool, as_json: bool, plain: bool) -> None:
    """Raises: click.UsageError."""
    if (as_json or plain) and not once:
        raise click.UsageError("--json and --plain need --once")
    exclude({"--json": as_json, "--plain": plain})


def print_once(source: Source, as_json: bool, private: bool) -> int:
    """The exit code, 0, after one snapshot on standard output. Raises: LlmtopError."""
    from llmtop import once

    found = once.look_once(source, private)
    click.echo(once.as_json(found) if as_json else once.as_plain(found))
    return 0
