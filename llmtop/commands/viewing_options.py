"""`--privacy`: how a viewer looks, as options of the commands that watch something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def viewing_options(command: Command) -> Command:
    """Adds `--privacy`."""
    return click.option(
        "--privacy",
        is_flag=True,
        help="Begin with names of requests, hosts, paths and prompts masked; P takes it back.",
    )(command)
