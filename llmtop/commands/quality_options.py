"""What `eval`, `tune` and `bench kv` all ask: a model, a text, and how much of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from llmtop.commands.completing import models
from llmtop.commands.engine_options import whole_number

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def quality_options(window: str, tokens: str) -> Decorator:
    """A decorator that adds them, with these defaults."""
    options = (
        click.argument("model", required=False, shell_complete=models),
        click.option(
            "--text",
            "text_file",
            metavar="FILE",
            help="Plain text to read.  [default: CPython's own help topics]",
        ),
        click.option(
            "--window",
            callback=whole_number,
            metavar="TOKENS",
            default=window,
            show_default=True,
            help="Context of one window; every token in it is predicted.",
        ),
        click.option(
            "--tokens",
            callback=whole_number,
            metavar="TOKENS",
            default=tokens,
            show_default=True,
            help="Tokens to predict in all, in windows spread evenly over the text.",
        ),
        click.option(
            "--dtype",
            type=click.Choice(["float32", "bfloat16"]),
            default="float32",
            show_default=True,
            help="Type of the weights and of the reference's cache.",
        ),
        click.option(
            "--kv-sink-pages",
            type=click.IntRange(min=0),
            default=1,
            show_default=True,
            help="First pages of a sequence that are never packed.",
        ),
    )

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate
