from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from llmtop.commands.attaching import addresses_of, check_attach, source_of, words_of
from llmtop.commands.base import LlmtopCommand
from llmtop.commands.credentials import key_env_option, key_for
from llmtop.commands.judging import slo_option, viewer_alarm, webhook_option
from llmtop.commands.once_options import check_once, once_options, print_once
from llmtop.commands.url import optional_url, server_urls
from llmtop.commands.viewing_options import viewing_of, viewing_options
from llmtop.commands.web_options import attach_in_browser, web_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmtop.peer import Address


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
@key_env_option("the first server")
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
    help="Give orders to one server that was started with --control: T captures kernels, O "
    "measures.",
)
@click.option(
    "--kv-events",
    multiple=True,
    metavar="ENDPOINT[,REPLAY]",
    help="Hear vLLM's KV events there, as its --kv-events-config has it (* is the URL's host), and "
    "show its blocks; once for each data-parallel rank, in their order.",
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
def command(urls: list[str], **options: Any) -> int:
    """Watch a server that runs somewhere else, or several at once.

    Of an `llmtop serve` all is shown. Of vLLM, SGLang, llama.cpp, TGI, TensorRT-LLM, LMDeploy,
    Dynamo, Ray Serve, Triton and NIM what their metrics pages tell, read once a second, of Ollama
    what it has loaded; of several servers these pages, side by side: --control, --kv-events,
    --gpu-metrics and --drain-metrics are for one. Without a URL the ports of this host are asked,
    with no key, for what serves there. A connection that is lost is made again. Leaving does not
    stop a server. With --once the exit code is 3 where there is nobody.
    """
    once, as_json = options["once"], options["as_json"]
    check_once(once, as_json, options["plain"])
    check_attach(urls, options)
    if not urls and once:
        from llmtop.commands.choosing import find_here, print_found

        return print_found(find_here(), as_json)
    addresses = addresses_of(urls, options)
    if options["web"]:
        return attach_in_browser(words_of(addresses, options, bool(urls)), options["web_port"])
    if once:
        return print_once(source_of(addresses, options), as_json, options["privacy"])
    return _watch(addresses, options)


def _watch(addresses: list[Address], options: Mapping[str, Any]) -> int:
    """The exit code, once the person has left."""
    from llmtop.commands.watching import watch

    source = source_of(addresses, options)
    alarm = viewer_alarm(options["slo"], options["alert_webhook"])
    url, api_key = addresses[0] if len(addresses) == 1 else ("", None)
    return watch(source, url, api_key, alarm, viewing_of(options))
