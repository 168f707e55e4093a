"""Options of the commands that clients send to: where, for whom, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from llmtop.commands.exclusion import exclude
from llmtop.commands.listen import check_key
from llmtop.commands.number import Number

Command = TypeVar("Command", bound=Callable[..., Any])


def serving_options(port: int) -> Callable[[Command], Command]:
    """Adds `--host` to `--shutdown-timeout`; `port` is where it listens unless told."""
    options = (
        click.option("--host", default="127.0.0.1", show_default=True),
        click.option(
            "--port",
            type=click.IntRange(0, 65535),
            default=port,
            show_default=True,
            help="0 takes a free one and shows it.",
        ),
        click.option(
            "--api-key",
            envvar="LLMTOP_API_KEY",
            show_envvar=True,
            help="Clients must send it as a bearer token; a command line can be read, the variable "
            "not.",
        ),
        click.option("--headless", is_flag=True, help="Without the dashboard."),
        click.option(
            "--session",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Record into this file.  [default: a new one under the data folder]",
        ),
        click.option("--no-record", is_flag=True, help="Record no session."),
        click.option(
            "--shutdown-timeout",
            type=Number(min=0),
            default=30.0,
            show_default=True,
            help="Seconds that running requests have to end when it is stopped.",
        ),
    )

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def check_serving(options: Mapping[str, Any]) -> None:
    """Raises: click.UsageError; LlmtopError where others could reach it and there is no key."""
    exclude({"--session": options["session"], "--no-record": options["no_record"]})
    if options["headless"] and (options["privacy"] or options["readonly"]):
        raise click.UsageError("--privacy and --readonly are of the dashboard: not with --headless")
    check_key(options["host"], options["api_key"])
