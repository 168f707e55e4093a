from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from llmtop.commands.base import LlmtopCommand
from llmtop.commands.credentials import key_for, with_keys
from llmtop.commands.extras import require_kv
from llmtop.commands.judging import slo_option, viewer_alarm, webhook_option
from llmtop.commands.once_options import check_once, once_options, print_once
from llmtop.commands.url import optional_url, server_urls
from llmtop.commands.viewing_options import viewing_options
from llmtop.commands.web_options import attach_in_browser, web_options
from llmtop.errors import LlmtopError
from llmtop.viewing import Viewing

if TYPE_CHECKING:
    from llmtop.peer import Address
    from llmtop.sources.base import Source
    from llmtop.sources.feed import FeedOf
    from profiler.conditions import Condition


@click.command(
    "attach",
    cls=LlmtopCommand,
    examples=(
        "llmtop attach http://127.0.0.1:8000",
        "llmtop attach http://gpu-a:8000 http://gpu-b:8000      # replicas, side by side",
        "llmtop attach                                         # what serves on this host",
        "LLMTOP_API_KEY=... llmtop attach https://gpu-box:8000",
        "llmtop attach http://127.0.0.1:8000 --slo 'ttft_p99<500ms,itl_p99<40ms'",
        "llmtop attach gpu-a:8000 gpu-b:8000 --api-key-for gpu-b=KEY_OF_B",
        "llmtop attach http://127.0.0.1:8000 --control         # T captures kernels",
        "llmtop attach http://gpu-box:8000 --kv-events 'tcp://*:5557,tcp://*:5558'  # vLLM's KV",
        "llmtop attach http://gpu-box:8000 --gpu-metrics http://gpu-box:9400      # with DCGM",
        "llmtop attach http://127.0.0.1:8000 | grep -i preempt   # plain lines",
        "llmtop attach http://127.0.0.1:8000 --once --json | jq .latency.ttft_ms.p95",
    ),
)
@click.argument("urls", metavar="[URL]...", nargs=-1, callback=server_urls)
@click.option(
    "--api-key-env",
    default="LLMTOP_API_KEY",
    show_default=True,
    metavar="NAME",
    help="The environment variable that holds the key of the first server.",
)
@click.option(
    "--api-key-for",
    multiple=True,
    metavar="HOST=NAME",
    callback=key_for,
    help="The variable that holds the key of HOST, or HOST:PORT; may be given again.",
)
@slo_option("Hold it to these objectives, rather than to those it was started with.")
@webhook_option()
@viewing_options
@click.option(
    "--control",
    is_flag=True,
    help="Give orders to a server that was started with --control: T captures kernels, O measures.",
)
@click.option(
    "--kv-events",
    metavar="ENDPOINT[,REPLAY]",
    help="Hear vLLM's KV events there, as its --kv-events-config has it (* is the URL's host), and "
    "show its blocks.",
)
@click.option(
    "--gpu-metrics",
    callback=optional_url,
    metavar="URL",
    help="Show the devices of the DCGM exporter there; it gets no key.",
)
@click.option(
    "--drain-metrics",
    is_flag=True,
    help="Read TensorRT-LLM's JSON /metrics, though it forgets what was read: other readers of it "
    "miss that.",
)
@web_options
@once_options
def command(
    urls: list[str],
    api_key_env: str,
    api_key_for: dict[str, str],
    slo: tuple[Condition, ...] | None,
    alert_webhook: str | None,
    privacy: bool,
    readonly: bool,
    ascii: bool,
    slow: bool,
    control: bool,
    kv_events: str | None,
    gpu_metrics: str | None,
    drain_metrics: bool,
    web: bool,
    web_port: int,
    once: bool,
    as_json: bool,
    plain: bool,
) -> int:
    """Watch a server that runs somewhere else, or several at once.

    Of an `llmtop serve` all is shown. Of vLLM, SGLang, llama.cpp, TGI, TensorRT-LLM, LMDeploy,
    Dynamo, Ray Serve, Triton and NIM what their metrics pages tell, read once a second, of Ollama
    what it has loaded; of several servers these pages, side by side. Without a URL the ports of
    this host are asked, with no key, for what serves there. A connection that is lost is made
    again. Leaving does not stop a server. With --once the exit code is 3 where there is nobody.
    """
    check_once(once, as_json, plain)
    _exclude("--web", web, "--once", once)
    _exclude("--readonly", readonly, "--control", control)
    viewing = Viewing(privacy, readonly, control, ascii, slow=slow)
    own_page = not (kv_events or gpu_metrics or drain_metrics)
    if not urls and (api_key_for or not own_page):
        raise click.UsageError("--api-key-for, and all that goes with one server, need its URL")
    if not urls and once:
        from llmtop.commands.choosing import find_here, print_found

        return print_found(find_here(), as_json)
    addresses = with_keys(urls, api_key_env, api_key_for) if urls else _chosen_here()
    first = addresses[0]
    if len(addresses) > 1 and (web or control or not own_page):
        raise click.UsageError("of several servers their own pages are shown, without --control")
    if web and not own_page:
        raise click.UsageError("--web goes with the server's own page alone")
    if web:
        return attach_in_browser(first.url, web_port, first.api_key, viewing)
    if len(addresses) > 1:
        from llmtop.sources.fleet import FleetSource

        source: Source = FleetSource(addresses)
    else:
        source = _source(first, _beside(first.url, kv_events, gpu_metrics), drain_metrics)
    if once:
        return print_once(source, as_json, privacy)
    from llmtop.commands.watching import watch

    alarm = viewer_alarm(slo, alert_webhook)
    url, api_key = first if len(addresses) == 1 else ("", None)
    return watch(source, url, api_key, alarm, viewing)


def _exclude(one: str, has_one: bool, other: str, has_other: bool) -> None:
    if has_one and has_other:
        raise click.UsageError(f"{one} and {other} exclude each other")


def _chosen_here() -> list[Address]:
    """What serves on this host, as the person chooses; it gets no key."""
    from llmtop.commands.choosing import choose, find_here

    return with_keys(choose(find_here()), "", {})


def _beside(url: str, kv_events: str | None, gpu_metrics: str | None) -> list[FeedOf]:
    """Raises: LlmtopError."""
    from llmtop.sources.gpufeed import GpuFeed
    from llmtop.sources.kvendpoints import kv_endpoints

    feeds: list[FeedOf] = []
    if kv_events is not None:
        endpoints = kv_endpoints(kv_events, url)
        require_kv()
        from llmtop.sources.kvfeed import KvFeed

        feeds.append(partial(KvFeed, endpoints))
    if gpu_metrics is not None:
        feeds.append(partial(GpuFeed, gpu_metrics))
    return feeds


def _source(address: Address, beside: list[FeedOf], drain: bool) -> Source:
    """Of what answers there now. Raises: LlmtopError if nothing of it can be shown."""
    from llmtop.sources.metrics import MetricsSource
    from llmtop.sources.probing import probe
    from llmtop.sources.remote import RemoteSource

    url, api_key = address
    target = probe(url, api_key, drain)
    if target is not None:
        return MetricsSource(target, api_key, beside)
    if beside:
        raise LlmtopError(
            f"{url} shows no metrics page now, and --kv-events and --gpu-metrics go with one",
            "start that server first; an llmtop server tells of both without them",
        )
    return RemoteSource(url, api_key)
