from __future__ import annotations

from typing import TYPE_CHECKING

import click

from llmtop.commands.base import LlmtopCommand
from llmtop.commands.completing import sessions
from llmtop.commands.exclusion import exclude

if TYPE_CHECKING:
    from profiler.compare.comparison import Comparison
    from profiler.compare.run import Run
    from profiler.conditions import Condition
    from profiler.folds.slo import Slo


@click.command(
    "compare",
    cls=LlmtopCommand,
    examples=(
        "llmtop compare 20260301-1412 latest          # the screen",
        "llmtop compare base.db new.db --markdown     # for a pull request",
        "llmtop compare base.db new.db --fail-if 'ttft_p99>+5%' --fail-if 'itl_p99>40ms'",
        "llmtop compare base.db new.db --json | jq '.metrics[] | {name, verdict}'",
    ),
)
@click.argument("a", metavar="A", shell_complete=sessions)
@click.argument("b", metavar="B", shell_complete=sessions)
@click.option("--markdown", "as_markdown", is_flag=True, help="Print tables instead of the screen.")
@click.option("--json", "as_json", is_flag=True, help="Print every number, as one JSON object.")
@click.option(
    "--fail-if",
    "fail_if",
    multiple=True,
    metavar="CONDITION",
    help="Exit with 1 if it holds: a change (ttft_p99 > +5%) or B's value (itl_p99 > 40ms). "
    "Repeatable.",
)
@click.option("--slo", metavar="OBJECTIVES", help="For goodput: ttft_p99<500ms,tpot_p99<40ms.")
@click.option("--anyway", is_flag=True, help="Compare runs of different workloads all the same.")
def command(
    a: str,
    b: str,
    as_markdown: bool,
    as_json: bool,
    fail_if: tuple[str, ...],
    slo: str | None,
    anyway: bool,
) -> int:
    """Compare two recorded sessions.

    A is the base, B what is held against it; each is a file, the beginning of a name that `llmtop
    sessions` shows, or latest. Where standard output is no terminal, or with a condition to fail
    on, tables are printed instead of the screen.
    """
    from llmtop.commands.terminal import has_terminal

    exclude({"--markdown": as_markdown, "--json": as_json})
    conditions, objectives = _conditions(fail_if), _objectives(slo)
    comparison = _compare(a, b, objectives, conditions)
    _refuse(comparison, anyway)
    if as_json:
        _print_json(comparison)
    elif as_markdown or conditions or not has_terminal():
        _print_markdown(comparison)
    else:
        from llmtop.compare.app import run_compare

        return run_compare(comparison)
    return 0 if comparison.passed else 1


def _conditions(texts: tuple[str, ...]) -> tuple[Condition, ...]:
    """Raises: click.UsageError."""
    from profiler.conditions import parse_conditions
    from profiler.errors import ConditionError

    try:
        return tuple(c for text in texts for c in parse_conditions(text, relative=True))
    except ConditionError as error:
        raise click.UsageError(f"--fail-if: {error.message}; {error.hint}") from None


def _objectives(text: str | None) -> Slo | None:
    """What a request must meet to be good. Raises: click.UsageError."""
    from profiler.errors import ConditionError
    from profiler.objectives import parse_objectives, request_bounds

    if text is None:
        return None
    try:
        return request_bounds(parse_objectives(text))
    except ConditionError as error:
        raise click.UsageError(f"--slo: {error.message}; {error.hint}") from None


def _compare(a: str, b: str, slo: Slo | None, conditions: tuple[Condition, ...]) -> Comparison:
    from profiler.compare.comparison import compare

    return compare(_read(a), _read(b), slo, conditions)


def _read(session: str) -> Run:
    from llmtop.commands.session_files import find_session
    from llmtop.paths import sessions_dir
    from profiler.compare.run import read_run

    return read_run(find_session(session, sessions_dir()))


def _refuse(comparison: Comparison, anyway: bool) -> None:
    """Raises: LlmtopError."""
    from llmtop.compare.words import refusal
    from llmtop.errors import LlmtopError

    refused = refusal(comparison)
    if refused and not anyway:
        raise LlmtopError(refused, "record both under the same load, or say --anyway")


def _print_json(comparison: Comparison) -> None:
    """A machine reads it, so that a gate that was not passed is told to people besides."""
    from llmtop.compare.written import written

    click.echo(written(comparison, "json"))
    for gate in comparison.gates:
        if gate.outcome != "passed":
            click.echo(f"{gate.outcome}: {gate.text}", err=True)


def _print_markdown(comparison: Comparison) -> None:
    from llmtop.compare.written import written

    click.echo(written(comparison, "md"))
