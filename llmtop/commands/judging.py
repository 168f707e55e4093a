"""The options that hold a session or a run to something."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from llmtop.commands.completing import objectives

if TYPE_CHECKING:
    from llmtop.alarm import Alarm
    from profiler.conditions import Condition, Judgement
    from profiler.metrics import Values

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

FAILED: Final = 1


def slo_option(help: str) -> Decorator:
    """`--slo`, given to the command as a tuple of conditions, or None."""
    return click.option(
        "--slo",
        callback=_objectives,
        metavar="METRIC<BOUND,...|PRESET",
        help=help,
        shell_complete=objectives,
    )


def webhook_option() -> Decorator:
    return click.option(
        "--alert-webhook",
        callback=_web_address,
        metavar="URL",
        help="POST each alert there as JSON; redirects are not followed.",
    )


def fail_if_option() -> Decorator:
    """`--fail-if`, given to the command as `fail_if`, a tuple of conditions."""
    return click.option(
        "--fail-if",
        multiple=True,
        callback=_gates,
        metavar="METRIC>BOUND",
        help="Exit with 1 if the whole run is so, or cannot be judged. May be given again.",
    )


def _objectives(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[Condition, ...] | None:
    from profiler.objectives import parse_objectives

    return None if value is None else _read(parse_objectives, value)


def _gates(
    ctx: click.Context, param: click.Parameter, value: Iterable[str]
) -> tuple[Condition, ...]:
    from profiler.conditions import parse_conditions

    return tuple(gate for text in value for gate in _read(parse_conditions, text))


def _read(parse: Callable[[str], tuple[Condition, ...]], text: str) -> tuple[Condition, ...]:
    from profiler.errors import ConditionError

    try:
        return parse(text)
    except ConditionError as error:
        raise click.BadParameter(f"{error.message}; {error.hint}") from None


def _web_address(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or not value.isprintable() or any(c.isspace() for c in value):
        raise click.BadParameter("write http://HOST/PATH or https://HOST/PATH")
    return value


def viewer_alarm(objectives: tuple[Condition, ...] | None, webhook: str | None) -> Alarm:
    """The alarm of a viewer, who is also told what the webhook complains of."""
    from llmtop.alarm import Alarm
    from llmtop.webhook import Webhook

    alarm = Alarm(objectives)
    if webhook is not None:
        alarm.webhook = Webhook(webhook, alarm.complaints.append)
    return alarm


def gate(conditions: tuple[Condition, ...], values: Values, code: int = 0) -> int:
    """The exit code of a command that would else end with `code`, after a line on standard error
    for each condition: a condition that shows, or has no value, fails the run."""
    from profiler.conditions import judge

    judgements = judge(conditions, values)
    for judgement in judgements:
        click.echo(_verdict(judgement), err=True)
    failed = any(judgement.met is not False for judgement in judgements)
    return code or (FAILED if failed else 0)


def _verdict(judgement: Judgement) -> str:
    words = {True: "FAILED ", False: "passed ", None: "FAILED "}
    return f"{words[judgement.met]} --fail-if {judgement}"
