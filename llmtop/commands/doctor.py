from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from llmtop.commands.base import LlmtopCommand

if TYPE_CHECKING:
    from llmtop.checks.check import Check


@click.command(
    "doctor",
    cls=LlmtopCommand,
    examples=(
        "llmtop doctor",
        "llmtop doctor --measure",
        "llmtop doctor --json | jq '.[] | select(.status != \"ok\")'",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of lines.")
@click.option(
    "--measure",
    is_flag=True,
    help="Measure anew what the device can do: read its memory, multiply matrices.",
)
def command(as_json: bool, measure: bool) -> int:
    """Check what this machine has and what is missing.

    Nothing is sent over the network. The exit code is 1 if anything fails.
    """
    import msgspec

    found: list[Check] = []
    for check in _checks(measure):
        found.append(check)
        if not as_json:
            _show(check)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    return 1 if any(check.status == "fail" for check in found) else 0


def _checks(measure: bool) -> Iterator[Check]:
    from llmtop.checks.devices import devices
    from llmtop.checks.machine import machine
    from llmtop.checks.models import default_model
    from llmtop.checks.screen import screen
    from llmtop.checks.software import software

    yield from software()
    yield from machine()
    yield from devices()
    yield default_model()
    yield screen()
    if measure:
        from llmtop.checks.ceilings import measured_ceilings

        yield from measured_ceilings()


def _show(check: Check) -> None:
    colour = {"ok": "green", "warn": "yellow", "fail": "red"}[check.status]
    click.echo(f"{click.style(f'{check.status:<5}', fg=colour)}{check.name:<13} {check.detail}")
    if check.hint:
        click.echo(f"{'':<19}hint: {check.hint}")
