"""Runs the terminal, or plain lines where there is none, on a source."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from llmtop.commands.terminal import has_terminal
from llmtop.viewing import AS_IT_IS, Viewing

if TYPE_CHECKING:
    from llmtop.alarm import Alarm
    from llmtop.proxy.config import ProxyConfig
    from llmtop.serving_config import ServeConfig
    from llmtop.sources.base import Source


Watch = Callable[["Source", str, str | None], int]


def watch(
    source: Source,
    base_url: str = "",
    api_key: str | None = None,
    alarm: Alarm | None = None,
    viewing: Viewing = AS_IT_IS,
) -> int:
    """The exit code, once the source has ended or the person has left."""
    try:
        if not has_terminal():
            from llmtop.plain import run_plain

            return run_plain(source, alarm, viewing.privacy)
        from llmtop.app import run_app

        return run_app(source, base_url, api_key, alarm, viewing)
    finally:
        tell_recorded(source)


def tell_recorded(source: Source) -> None:
    path = source.session_file
    if source.mode == "LIVE" and path is not None and path.exists():
        click.echo(f"recorded {path}; llmtop replay shows it", err=True)


def watch_engine(
    config: ServeConfig | ProxyConfig,
    listener: socket.socket,
    show: Watch = watch,
    module: str = "llmtop.serving",
) -> int:
    """The exit code of a server of our own, started as `module` and ended with what shows it."""
    from llmtop.commands.listen import url_of
    from llmtop.sources.engine import EngineSource

    url = url_of(listener)
    return show(EngineSource(config, listener, url, module=module), url, config.api_key)
