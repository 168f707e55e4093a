"""A server's address as a person types it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import click


class ServerUrl(click.ParamType):
    """`http://host:port`; the scheme may be left out, and a trailing slash or /v1 is dropped."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip()
        if "://" not in text:
            text = f"http://{text}"
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            self.fail(f"{value!r} is not an address: {error}", param, ctx)
        if parts.scheme not in ("http", "https") or not host:
            self.fail(f"{value!r} is not an address; write http://HOST:PORT", param, ctx)
        if parts.username or parts.password:
            self.fail("no password in the address; use --api-key-env", param, ctx)
        if any(c.isspace() or not c.isprintable() for c in text):
            self.fail(f"{value!r} is not an address", param, ctx)
        shown = f"[{host}]" if ":" in host else host
        path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
        return f"{parts.scheme}://{shown}{'' if port is None else f':{port}'}{path}"
