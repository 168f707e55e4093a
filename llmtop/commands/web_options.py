"""`--web`: the dashboard in a browser of this machine instead of the terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from llmtop.commands.extras import require_web
from llmtop.commands.listen import open_socket
from llmtop.commands.watching import Watch, tell_recorded

if TYPE_CHECKING:
    from llmtop.sources.base import Source
    from llmtop.viewing import Viewing

LOOPBACK: Final = "127.0.0.1"
# Where a tab's process finds the server's key: others can read a command line, not this.
KEY_VARIABLE: Final = "LLMTOP_BROWSER_API_KEY"
Command = TypeVar("Command", bound=Callable[..., Any])


def web_options(command: Command) -> Command:
    """Adds `--web` and `--web-port`."""
    for option in (
        click.option(
            "--web-port",
            type=click.IntRange(0, 65535),
            default=0,
            metavar="PORT",
            help="With --web: of the page.  [default: a free one]",
        ),
        click.option(
            "--web",
            is_flag=True,
            help="The dashboard in a browser of this machine; needs the extra `web`.",
        ),
    ):
        command = option(command)
    return command


def attach_in_browser(words: Sequence[str], port: int) -> int:
    """The exit code, after Ctrl-C; a tab runs `llmtop attach` with `words`. Raises: LlmtopError."""
    require_web()
    from llmtop.browser.page import run_in_browser

    with open_socket(LOOPBACK, port) as page:
        return run_in_browser(words, page)


def watch_in_browser(port: int, viewing: Viewing) -> Watch:
    """What shows a source of our own in a browser, from its start to its end.

    Raises: LlmtopError, the function that is returned too.
    """
    require_web()
    from llmtop.browser.page import run_in_browser

    def watch(source: Source, url: str, api_key: str | None) -> int:
        if api_key is not None:
            os.environ[KEY_VARIABLE] = api_key
        words = (url, "--api-key-env", KEY_VARIABLE, *viewing.flags)
        with open_socket(LOOPBACK, port) as page:
            source.start()
            try:
                return run_in_browser(words, page, source)
            finally:
                if source.farewell:
                    click.echo(source.farewell, err=True)
                source.stop()
                tell_recorded(source)

    return watch
