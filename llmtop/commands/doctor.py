from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from llmtop.commands.base import LlmtopCommand
from llmtop.commands.credentials import key_env_option
from llmtop.commands.url import optional_url

if TYPE_CHECKING:
    from llmtop.checks.check import Check


@click.command(
    "doctor",
    cls=LlmtopCommand,
    examples=(
        "llmtop doctor",
        "llmtop doctor --measure",
        "llmtop doctor --json | jq '.[] | select(.status != \"ok\")'",
        "llmtop doctor http://gpu-box:8000               # a server: what it is and tells",
        "llmtop doctor http://gpu-box:8000 --json | jq '.signals[] | {what, status, name}'",
    ),
)
@click.argument("url", required=False, callback=optional_url)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of lines.")
@click.option(
    "--measure",
    is_flag=True,
    help="Measure anew what the device can do: read its memory, multiply matrices.",
)
@key_env_option("the server")
def command(url: str | None, as_json: bool, measure: bool, api_key_env: str) -> int:
    """Check what this machine has and what is missing.

    With a URL it looks at the server there instead: what answers, which metrics it has and lacks,
    what llmtop can show of it, and what would show more; no prompt is sent. Without one, nothing
    is sent over the network. The exit code is 1 if anything fails.
    """
    import msgspec

    if url is not None:
        if measure:
            raise click.UsageError("--measure is for this machine, not for a URL")
        return _examine(url, os.environ.get(api_key_env), as_json)
    found: list[Check] = []
    for check in _checks(measure):
        found.append(check)
        if not as_json:
            _show(check)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    return 1 if any(check.status == "fail" for check in found) else 0


def _examine(url: str, api_key: str | None, as_json: bool) -> int:
    """1 where the server shows nothing as it is."""
    import msgspec

    from llmtop.checks.examined import examination_lines
    from llmtop.checks.server import examine

    found = examine(url, api_key)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        for line in examination_lines(found):
            click.echo(line)
    return 0 if found.signals or any(view.shown for view in found.views) else 1


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
