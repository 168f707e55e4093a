"""`--privacy` and `--readonly`: options of the commands that watch something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def viewing_options(command: Command) -> Command:
    """Adds the two."""
    for option in (
        click.option(
            "--readonly",
            is_flag=True,
            help="Look only: refuse the keys that send something or write a file.",
        ),
        click.option(
            "--privacy",
            is_flag=True,
            help="Begin with names of requests, hosts, paths and prompts masked; P takes it back.",
        ),
    ):
        command = option(command)
    return command
