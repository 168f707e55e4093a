"""The shape that every command of llmtop shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click


def debug_option() -> click.Option:
    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        help="Show the traceback of an error.",
    )


class _WithExamples(click.Command):
    """Takes `--debug` and ends its help with `examples`."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.params.append(debug_option())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, self.examples)


class LlmtopCommand(_WithExamples):
    """A command that does something."""


class LlmtopGroup(_WithExamples, click.Group):
    """A command that only holds others."""


def write_examples(formatter: click.HelpFormatter, examples: Sequence[str]) -> None:
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")
