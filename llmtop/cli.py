"""The command line. Each command is imported when it is called, so that help is instant."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from llmtop import __version__
from llmtop.commands.base import debug_option, write_examples

INTERRUPTED: Final = 130
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# The one line of help beside each name: the first line of the command's own help, held by a test.
COMMANDS: Final[dict[str, str]] = {
    "serve": "Serve a model and watch it work.",
    "proxy": "Measure each request to any OpenAI server.",
    "attach": "Watch a server that runs somewhere else, or several at once.",
    "replay": "Watch a recorded session.",
    "explain": "Say what happened in a recorded session, and why.",
    "compare": "Compare two recorded sessions.",
    "sessions": "List the recorded sessions.",
    "export": "Write a recorded session for other programs.",
    "report": "Write the numbers of a recorded session as Markdown.",
    "keys": "Print every key as TOML, ready to edit.",
    "models": "List the models that can be served by name.",
    "load": "Send load to a server and measure its answers.",
    "eval": "Measure what a packed KV cache does to a model's words.",
    "tune": "Choose a KV cache format for each layer, within a budget.",
    "bench": "Measure parts of the engine by themselves.",
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            ctx.fail(f"there is no command {args[0]!r}{meant}")
        return super().resolve_command(ctx, args)

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
    """The exit code: 0 done, 1 failed, 2 wrong usage, 3 source lost, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        result = cli.main(arguments, prog_name="llmtop", standalone_mode=False)
    except click.ClickException as error:
        say(error.format_message(), hint_for_usage(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        return abandon_output()
    except Exception as error:
        return report_error(error, debug="--debug" in arguments)
    return result if isinstance(result, int) else 0


def say(message: str, hint: str) -> None:
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)


def hint_for_usage(error: click.ClickException) -> str:
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{error.ctx.command_path} --help shows how"
    return ""


def abandon_output() -> int:
    """The exit code after the reader of our output has left, as `head` does."""
    # What is still in the buffer would be written, and fail again, when the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def report_error(error: Exception, debug: bool) -> int:
    """The exit code, after one line about `error`, one with what to do, and no traceback."""
    from engine.errors import EngineError
    from llmtop.errors import LlmtopError
    from profiler.errors import ProfilerError

    if debug:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, EngineError | ProfilerError | LlmtopError):
        say(error.message, error.hint)
    elif isinstance(error, OSError) and error.errno in NO_ROOM:
        say(f"cannot write: {error.strerror}", "make room, or write elsewhere")
    else:
        hint = "this is a bug in llmtop; --debug shows where"
        say(f"unexpected {type(error).__name__}: {error}", hint)
    return error.exit_code if isinstance(error, LlmtopError) else 1
