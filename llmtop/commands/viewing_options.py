"""`--privacy`, `--readonly`, `--ascii`, `--slow`: options of the commands that watch something."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from llmtop.viewing import Viewing

Command = TypeVar("Command", bound=Callable[..., Any])


def speaks_utf8() -> bool:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return codecs.lookup(encoding).name == "utf-8"


def viewing_of(options: Mapping[str, Any]) -> Viewing:
    """What the parsed options say; a command without --control has given no leave for orders."""
    names = ("privacy", "readonly", "ascii", "slow")
    chosen = {name: options[name] for name in names}
    return Viewing(control=options.get("control", False), **chosen)


def viewing_options(command: Command) -> Command:
    """Adds them."""
    for option in (
        click.option(
            "--slow",
            is_flag=True,
            help="Draw once a second and at most 20 KiB of it, for a terminal far away.",
        ),
        click.option(
            "--ascii",
            is_flag=True,
            default=lambda: not speaks_utf8(),
            help="Draw in ASCII alone.  [default: where the terminal's encoding is not UTF-8]",
        ),
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
