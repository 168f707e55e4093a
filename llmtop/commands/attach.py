from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from llmtop.commands.base import LlmtopCommand
from llmtop.commands.judging import slo_option, viewer_alarm, webhook_option
from llmtop.commands.url import server_url

if TYPE_CHECKING:
    from profiler.conditions import Condition


@click.command(
    "attach",
    cls=LlmtopCommand,
    examples=(
        "llmtop attach http://127.0.0.1:8000",
        "LLMTOP_API_KEY=... llmtop attach https://gpu-box:8000",
        "llmtop attach http://127.0.0.1:8000 --slo 'ttft_p99<500ms,itl_p99<40ms'",
        "llmtop attach http://127.0.0.1:8000 | grep -i preempt   # plain lines",
    ),
)
@click.argument("url", callback=server_url)
@click.option(
    "--api-key-env",
    default="LLMTOP_API_KEY",
    show_default=True,
    metavar="NAME",
    help="The environment variable that holds the server's key.",
)
@slo_option("Hold it to these objectives, rather than to those it was started with.")
@webhook_option()
def command(
    url: str, api_key_env: str, slo: tuple[Condition, ...] | None, alert_webhook: str | None
) -> int:
    """Watch a server that runs somewhere else.

    The server is an `llmtop serve`. A connection that is lost is made again and goes on where it
    stopped. Leaving does not stop the server.
    """
    from llmtop.commands.watching import watch
    from llmtop.sources.remote import RemoteSource

    api_key = os.environ.get(api_key_env)
    alarm = viewer_alarm(slo, alert_webhook)
    return watch(RemoteSource(url, api_key), url, api_key, alarm)
