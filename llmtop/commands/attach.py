from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from llmtop.commands.base import LlmtopCommand
from llmtop.commands.judging import slo_option, viewer_alarm, webhook_option
from llmtop.commands.once_options import check_once, once_options, print_once
from llmtop.commands.url import server_url
from llmtop.commands.viewing_options import viewing_options
from llmtop.commands.web_options import attach_in_browser, web_options
from llmtop.viewing import Viewing

if TYPE_CHECKING:
    from llmtop.sources.base import Source
    from profiler.conditions import Condition


@click.command(
    "attach",
    cls=LlmtopCommand,
    examples=(
        "llmtop attach http://127.0.0.1:8000",
        "LLMTOP_API_KEY=... llmtop attach https://gpu-box:8000",
        "llmtop attach http://127.0.0.1:8000 --slo 'ttft_p99<500ms,itl_p99<40ms'",
        "llmtop attach http://127.0.0.1:8000 --control         # T captures kernels",
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
@slo_option("Hold it to these objectives, rather than to those it was started with.")
@webhook_option()
@viewing_options
@click.option(
    "--control",
    is_flag=True,
    help="Give orders to a server that was started with --control: T captures kernels, O measures.",
)
@web_options
@once_options
def command(
    url: str,
    api_key_env: str,
    slo: tuple[Condition, ...] | None,
    alert_webhook: str | None,
    privacy: bool,
    readonly: bool,
    ascii: bool,
    control: bool,
    web: bool,
    web_port: int,
    once: bool,
    as_json: bool,
    plain: bool,
) -> int:
    """Watch a server that runs somewhere else.

    Of an `llmtop serve` all is shown. Of vLLM, SGLang, llama.cpp, TGI, TensorRT-LLM, LMDeploy,
    Dynamo, Ray Serve, Triton and NIM what their metrics pages tell, read once a second. A
    connection that is lost is made again. Leaving does not stop the server.
    """
    check_once(once, as_json, plain)
    if web and once:
        raise click.UsageError("--web and --once exclude each other")
    if readonly and control:
        raise click.UsageError("--readonly and --control exclude each other")
    api_key, viewing = os.environ.get(api_key_env), Viewing(privacy, readonly, control, ascii)
    if web:
        return attach_in_browser(url, web_port, api_key, viewing)
    from llmtop.commands.watching import watch

    source = _source(url, api_key)
    if once:
        return print_once(source, as_json, privacy)
    return watch(source, url, api_key, viewer_alarm(slo, alert_webhook), viewing)


def _source(url: str, api_key: str | None) -> Source:
    """Of what answers there now. Raises: LlmtopError if nothing of it can be shown."""
    from llmtop.sources.metrics import MetricsSource
    from llmtop.sources.probing import probe
    from llmtop.sources.remote import RemoteSource

    target = probe(url, api_key)
    return RemoteSource(url, api_key) if target is None else MetricsSource(target, api_key)
