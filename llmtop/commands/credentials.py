"""Which key goes to which server: each to the one that it is meant for, and to no other."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import click

from llmtop.peer import Address

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
Command = TypeVar("Command", bound=Callable[..., Any])


def key_env_option(whose: str) -> Callable[[Command], Command]:
    """Adds `--api-key-env`."""
    return click.option(
        "--api-key-env",
        default="LLMTOP_API_KEY",
        show_default=True,
        metavar="NAME",
        help=f"The environment variable that holds the key of {whose}.",
    )


def key_for(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> dict[str, str]:
    """Of `HOST[:PORT]=NAME` each, the variable's name by host. Raises: click.BadParameter."""
    found: dict[str, str] = {}
    for text in value:
        host, equals, name = text.partition("=")
        if not host or not equals or not name:
            raise click.BadParameter(f"{text!r} is not HOST=NAME; NAME holds the key")
        found[host.lower()] = name
    return found


def with_keys(
    urls: Sequence[str],
    first_name: str,
    names: Mapping[str, str],
    environment: Mapping[str, str] = os.environ,
) -> list[Address]:
    """Each URL with its key: what `names` says of its host and port, or of its host; else the first
    URL's server has that of the variable `first_name`, and others have none.

    Raises: click.UsageError for a host that is not among the URLs, and a variable that is not set.
    """
    places = [_place(url) for url in urls]
    known = {host for place in places for host in place}
    for host, name in names.items():
        if host not in known:
            raise click.UsageError(f"--api-key-for {host}: no such server among those named")
        if not environment.get(name):
            raise click.UsageError(f"--api-key-for {host}: the variable {name} is not set")
    first = environment.get(first_name) or None
    return [
        Address(url, _key(place, names, environment, first if _same(url, urls[0]) else None))
        for url, place in zip(urls, places, strict=True)
    ]


def _key(
    place: tuple[str, str],
    names: Mapping[str, str],
    environment: Mapping[str, str],
    otherwise: str | None,
) -> str | None:
    name = next((names[host] for host in place if host in names), None)
    return otherwise if name is None else environment[name]


def _place(url: str) -> tuple[str, str]:
    """Host with port, and host."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{parts.port or _DEFAULT_PORTS[parts.scheme]}", host


def _same(url: str, other: str) -> bool:
    one, two = urlsplit(url), urlsplit(other)
    return (one.scheme, _place(url)[0]) == (two.scheme, _place(other)[0])
