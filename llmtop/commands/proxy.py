from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from llmtop.commands.base import LlmtopCommand
from llmtop.commands.judging import slo_option, webhook_option
from llmtop.commands.number import Number
from llmtop.commands.serving_options import check_serving, serving_options
from llmtop.commands.url import server_url
from llmtop.commands.viewing_options import viewing_of, viewing_options
from llmtop.viewing import Viewing

if TYPE_CHECKING:
    from llmtop.proxy.config import ProxyConfig


@click.command(
    "proxy",
    cls=LlmtopCommand,
    examples=(
        "llmtop proxy --upstream http://127.0.0.1:8000             # clients now use port 8001",
        "llmtop proxy --upstream http://gpu-box:8000 --headless    # llmtop attach shows it",
        "llmtop proxy --upstream http://127.0.0.1:11434 --port 0   # Ollama, a free port",
        "llmtop proxy --upstream http://127.0.0.1:8000 --slo 'ttft_p99<500ms'",
    ),
)
@click.option(
    "--upstream",
    required=True,
    callback=server_url,
    metavar="URL",
    help="The server that answers: vLLM, llama.cpp, SGLang, Ollama or any other of OpenAI's API.",
)
@serving_options(port=8001)
@click.option(
    "--silence-timeout",
    type=Number(min=0, min_open=True),
    default=600.0,
    show_default=True,
    help="Seconds without a byte after which the server is given up.",
)
@slo_option("Objectives: attainment is shown, a miss alerts.")
@webhook_option()
@viewing_options
def command(**options: Any) -> int:
    """Measure each request to any OpenAI server.

    Clients send to the proxy instead of the server. Every byte passes as it is, a key too; the
    proxy tells of each request what it sees: when it came, its tokens and the time before each, how
    it ended.
    """
    from llmtop.commands.extras import require_proxy
    from llmtop.commands.listen import open_socket

    check_serving(options)
    require_proxy()
    with open_socket(options["host"], options["port"]) as listener:
        config = _config(listener, options)
        return _run(config, listener, options["headless"], viewing_of(options))


def _run(config: ProxyConfig, listener: socket.socket, headless: bool, viewing: Viewing) -> int:
    if headless:
        from llmtop.proxying import run_proxy

        return run_proxy(config)
    from llmtop.commands.watching import watch, watch_engine

    return watch_engine(config, listener, partial(watch, viewing=viewing), "llmtop.proxying")


def _config(listener: socket.socket, options: dict[str, Any]) -> ProxyConfig:
    from urllib.parse import urlsplit

    from llmtop.commands.session_files import chosen_session
    from llmtop.proxy.config import ProxyConfig
    from profiler.objectives import written

    name = f"proxy-{urlsplit(options['upstream']).netloc}"
    path = None if options["no_record"] else chosen_session(name, options["session"])
    return ProxyConfig(
        upstream=options["upstream"],
        host=options["host"],
        port=listener.getsockname()[1],
        socket_fd=listener.fileno(),
        api_key=options["api_key"],
        session_path=path,
        silence_s=options["silence_timeout"],
        drain_timeout_s=options["shutdown_timeout"],
        slo=written(options["slo"] or ()),
        alert_webhook=options["alert_webhook"],
    )
