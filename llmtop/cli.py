"""The command line. Each command is imported when it is called, so that help is instant."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import Final

import click

from llmtop import __version__
from llmtop.commands.base import debug_option, write_examples

INTERRUPTED: Final = 130

# The one line of help beside each name: the first line of the command's own help, held by a test.
COMMANDS: Final[dict[str, str]] = {
    "serve": "Serve a model and watch it work.",
    "attach": "Watch a server that runs somewhere else.",
    "replay": "Watch a recorded session.",
    "sessions": "List the recorded sessions.",
    "models": "List the models that can be served by name.",
    "load": "Send load to a server and measure its answers.",
    "doctor": "Check what this machine has and what is missing.",
    "completion": "Print the completion script of a shell.",
}

EXAMPLES: Final = (
    "llmtop serve                              # a small real model, with the dashboard",
    "llmtop attach http://gpu-box:8000         # the dashboard of a server elsewhere",
    "llmtop load http://127.0.0.1:8000 --concurrency 8",
)


class LazyGroup(click.Group):
    """A group that knows its commands' names without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"llmtop.commands.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(formatter, EXAMPLES)


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    params=[debug_option()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="llmtop", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """See what a language model does while it serves: every request, page and step, live."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        result = cli.main(arguments, prog_name="llmtop", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:
        return report_error(error, debug="--debug" in arguments)
    return result if isinstance(result, int) else 0


def report_error(error: Exception, debug: bool) -> int:
    """The exit code, after one line about `error`, one with what to do, and no traceback."""
    from engine.errors import EngineError
    from llmtop.errors import LlmtopError
    from profiler.errors import ProfilerError

    if debug:
        traceback.print_exception(error)
    if isinstance(error, EngineError | ProfilerError | LlmtopError):
        message, hint = error.message, error.hint
    else:
        message = f"unexpected {type(error).__name__}: {error}"
        hint = "this is a bug in llmtop; --debug shows where"
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    return error.exit_code if isinstance(error, LlmtopError) else 1
