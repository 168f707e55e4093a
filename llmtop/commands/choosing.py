"""`llmtop attach` without a URL: what is found on this host, and which of it to watch."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
import msgspec

from llmtop.commands.terminal import has_terminal, in_browser
from llmtop.errors import LlmtopError
from llmtop.sources.discovery import Found, discover
from llmtop.sources.listening import listening_urls

_HINT = "name it: llmtop attach http://HOST:PORT; llmtop serve starts one here"


def find_here() -> list[Found]:
    """Raises: LlmtopError where this system does not tell which ports listen."""
    urls = listening_urls()
    if sys.stderr.isatty():
        click.echo(f"asking {len(urls)} ports that listen on this host", err=True)
    return discover(urls)


def print_found(found: Sequence[Found], as_json: bool) -> int:
    """The exit code: 1 where there is nothing."""
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        for line in _table(found):
            click.echo(line)
    if not found:
        raise _nothing()
    return 0


def choose(found: Sequence[Found]) -> list[str]:
    """The URLs to watch: the only one there is, or those that the person at the terminal names.

    Raises: LlmtopError.
    """
    shown = [one for one in found if not one.note]
    for one in found:
        if one.note:
            click.echo(f"not shown: {one.url}: {one.note}", err=True)
    if not shown:
        raise _nothing()
    if len(shown) == 1:
        click.echo(f"found {_words(shown[0])}", err=True)
        return [shown[0].url]
    if not has_terminal() or in_browser():
        raise LlmtopError(
            f"{len(shown)} servers answer: {', '.join(one.url for one in shown)}",
            "name those to watch: llmtop attach URL URL",
        )
    for line in _table(shown):
        click.echo(line, err=True)
    numbers: list[int] = click.prompt(
        f"which? 1 to {len(shown)}, several as 1,2, or all",
        default="all",
        err=True,
        value_proc=lambda text: chosen(text, len(shown)),
    )
    return [shown[number - 1].url for number in numbers]


def chosen(text: str, count: int) -> list[int]:
    """The numbers in `text`, from 1 to `count`. Raises: click.UsageError, and is asked again."""
    words = text.replace(",", " ").split()
    if [word.lower() for word in words] == ["all"]:
        return list(range(1, count + 1))
    numbers = [int(word) if word.isdecimal() else 0 for word in words]
    if not numbers or any(not 1 <= number <= count for number in numbers):
        raise click.UsageError(f"write numbers from 1 to {count}, such as 1,2, or all")
    return list(dict.fromkeys(numbers))


def _nothing() -> LlmtopError:
    return LlmtopError("no server that llmtop knows answers on this host's ports", _HINT)


def _table(found: Sequence[Found]) -> list[str]:
    rows = [(one.url, one.engine, one.version, one.note or one.model) for one in found]
    widths = [max(len(row[at]) for row in rows) for at in range(3)] if rows else []
    return [
        f"{number:>2}  "
        + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False))
        + f"  {row[3]}".rstrip()
        for number, row in enumerate(rows, 1)
    ]


def _words(one: Found) -> str:
    return " ".join(filter(None, (one.engine, one.version, one.model, "at", one.url)))
