"""A server's address as a person types it."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

import click


def server_url(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """`http://host:port`; the scheme may be left out, and a trailing slash or /v1 is dropped.

    Raises: click.BadParameter.
    """
    text = value.strip() if "://" in value else f"http://{value.strip()}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not an address: {error}") from None
    if parts.scheme not in ("http", "https") or not host or not _is_plain(text):
        raise click.BadParameter(f"{value!r} is not an address; write http://HOST:PORT")
    if parts.username or parts.password:
        raise click.BadParameter("no password in the address; use --api-key-env")
    shown = f"[{host}]" if ":" in host else host
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{parts.scheme}://{shown}{'' if port is None else f':{port}'}{path}"


def server_urls(ctx: click.Context, param: click.Parameter, value: Sequence[str]) -> list[str]:
    """Each of `value` as `server_url` has it, none twice. Raises: click.BadParameter."""
    return list(dict.fromkeys(server_url(ctx, param, text) for text in value))


def optional_url(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    return None if value is None else server_url(ctx, param, value)


def _is_plain(text: str) -> bool:
    return text.isprintable() and not any(c.isspace() for c in text)
