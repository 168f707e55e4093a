"""The server process: `python -m llmtop.serving`, or `run_server` in a process of one's own."""

from __future__ import annotations

import asyncio
import socket
import sys

from engine.errors import EngineError
from engine.server.launch import CoreLaunch
from llmtop.commands.listen import inherited_or_new
from llmtop.errors import LlmtopError
from llmtop.lifeline import read_config
from llmtop.paths import cache_dir
from llmtop.serving_config import ServeConfig
from llmtop.serving_progress import say_nothing, say_on_stderr, say_on_stdout
from profiler.errors import ProfilerError


def run_server(config: ServeConfig, *, lifeline: bool = False) -> int:
    """The exit code, once the server has stopped: 0 after a drain, 130 after an interrupt.

    Says on standard error what it does and on standard output where it is, once it is ready. With
    `lifeline` it says nothing, and the end of standard input asks for a stop.

    Raises: EngineError, LlmtopError, ProfilerError if it cannot start or the core failed.
    """
    listener = inherited_or_new(config.socket_fd, config.host, config.port, config.api_key)
    # The core imports torch for seconds: it starts before this process imports anything else.
    launch = CoreLaunch(config.engine, cache_dir(), config.observe)
    try:
        return asyncio.run(_serve(config, launch, listener, lifeline))
    finally:
        launch.end(0.0)
        listener.close()


async def _serve(
    config: ServeConfig, launch: CoreLaunch, listener: socket.socket, lifeline: bool
) -> int:
    from llmtop.serving_process import ServerProcess

    say = say_nothing if lifeline else say_on_stderr
    announce = say_nothing if lifeline else say_on_stdout
    return await ServerProcess(config, launch, listener, say, announce, lifeline).run()


def main() -> int:
    """The exit code of a server that another process of ours has started."""
    try:
        return run_server(read_config(ServeConfig), lifeline=True)
    except (EngineError, LlmtopError, ProfilerError) as error:
        say_on_stderr(f"error: {error.message}")
        if error.hint:
            say_on_stderr(f"hint: {error.hint}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
