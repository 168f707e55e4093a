"""The proxy process: `python -m llmtop.proxying`, or `run_proxy` in a process of one's own."""

from __future__ import annotations

import asyncio
import socket
import sys

from llmtop.commands.listen import inherited_or_new
from llmtop.errors import LlmtopError
from llmtop.lifeline import read_config
from llmtop.proxy.config import ProxyConfig
from llmtop.serving_progress import say_on_stderr
from profiler.errors import ProfilerError


def run_proxy(config: ProxyConfig, *, lifeline: bool = False) -> int:
    """The exit code, once the proxy has stopped: 0 after a drain, 130 after an interrupt.

    Says on standard error what it does and on standard output where it is. With `lifeline` it says
    nothing, and the end of standard input asks for a stop.

    Raises: LlmtopError, ProfilerError if it cannot start.
    """
    listener = inherited_or_new(config.socket_fd, config.host, config.port, config.api_key)
    try:
        return asyncio.run(_pass_on(config, listener, lifeline))
    finally:
        listener.close()


async def _pass_on(config: ProxyConfig, listener: socket.socket, lifeline: bool) -> int:
    from llmtop.proxy.process import ProxyProcess

    proxy = await ProxyProcess.start(config, listener, say_on_stderr, lifeline)
    return await proxy.run()


def main() -> int:
    """The exit code of a proxy that another process of ours has started."""
    try:
        return run_proxy(read_config(ProxyConfig), lifeline=True)
    except (LlmtopError, ProfilerError) as error:
        say_on_stderr(f"error: {error.message}")
        if error.hint:
            say_on_stderr(f"hint: {error.hint}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
