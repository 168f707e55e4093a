"""The server process: `python -m llmtop.serving`, or `run_server` in a process of one's own."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import Final

import msgspec

from engine.errors import EngineError
from engine.server.launch import CoreLaunch
from llmtop.commands.listen import is_loopback, open_socket
from llmtop.errors import LlmtopError
from llmtop.paths import cache_dir
from llmtop.serving_config import ServeConfig
from llmtop.serving_progress import say_nothing, say_on_stderr, say_on_stdout
from profiler.errors import ProfilerError

STDIN: Final = 0
MAX_CONFIG_BYTES: Final = 1 << 20


def run_server(config: ServeConfig, *, lifeline: bool = False) -> int:
    """The exit code, once the server has stopped: 0 after a drain, 130 after an interrupt.

    Says on standard error what it does and on standard output where it is, once it is ready. With
    `lifeline` it says nothing, and the end of standard input asks for a stop.

    Raises: EngineError, LlmtopError, ProfilerError if it cannot start or the core failed.
    """
    listener = _listener(config)
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


def _listener(config: ServeConfig) -> socket.socket:
    """The socket to serve on, ours to close. Raises: LlmtopError."""
    if config.socket_fd is None:
        listener = open_socket(config.host, config.port)
    else:
        listener = socket.socket(fileno=os.dup(config.socket_fd))
    host = listener.getsockname()[0]
    if not config.api_key and not is_loopback(host):
        listener.close()
        raise LlmtopError(
            f"{host} is open to the network and there is no key", "set a key, or use 127.0.0.1"
        )
    return listener


def read_config() -> ServeConfig:
    """The configuration in the first line of standard input. Raises: LlmtopError."""
    data = b""
    while not data.endswith(b"\n"):
        chunk = os.read(STDIN, 1 << 16)
        data += chunk
        if not chunk or len(data) > MAX_CONFIG_BYTES:
            raise LlmtopError("standard input holds no configuration", "use llmtop serve")
    try:
        return msgspec.json.decode(data, type=ServeConfig)
    except msgspec.DecodeError as error:
        raise LlmtopError(f"standard input holds no configuration: {error}") from None


def main() -> int:
    """The exit code of a server that another process of ours has started."""
    try:
        return run_server(read_config(), lifeline=True)
    except (EngineError, LlmtopError, ProfilerError) as error:
        say_on_stderr(f"error: {error.message}")
        if error.hint:
            say_on_stderr(f"hint: {error.hint}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
