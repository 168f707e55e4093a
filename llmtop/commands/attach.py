from __future__ import annotations

import os

import click

from llmtop.commands.base import LlmtopCommand
from llmtop.commands.once_options import check_once, once_options, print_once
from llmtop.commands.url import server_url
from llmtop.commands.web_options import attach_in_browser, web_options


@click.command(
    "attach",
    cls=LlmtopCommand,
    examples=(
        "llmtop attach http://127.0.0.1:8000",
        "LLMTOP_API_KEY=... llmtop attach https://gpu-box:8000",
        "llmtop attach http://127.0.0.1:8000 | grep -i preempt   # plain lines",
        "llmtop attach http://127.0.0.1:8000 --once --json | jq .latency.ttft_ms.p95",
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
@web_options
@once_options
def command(
    url: str,
    api_key_env: str,
    web: bool,
    web_port: int,
    once: bool,
    as_json: bool,
    plain: bool,
) -> int:
    """Watch a server that runs somewhere else.

    The server is an `llmtop serve`. A connection that is lost is made again and goes on where it
    stopped. Leaving does not stop the server.
    """
    check_once(once, as_json, plain)
    if web and once:
        raise click.UsageError("--web and --once exclude each other")
    api_key = os.environ.get(api_key_env)
    if web:
        return attach_in_browser(url, web_port, api_key)
    from llmtop.commands.watching import watch
    from llmtop.sources.remote import RemoteSource

    source = RemoteSource(url, api_key)
    return print_once(source, as_json) if once else watch(source, url, api_key)
