"""One page of a server, fetched within bounds: of time, of size, and of where the key may go."""

from __future__ import annotations

from typing import Final, NamedTuple

import httpx

from llmtop.peer import key_headers
from profiler.errors import StreamError
from profiler.foreign.page import MAX_PAGE_BYTES

TIMEOUT: Final = httpx.Timeout(5.0)


class Fetched(NamedTuple):
    status: int
    content_type: str
    text: str


def client_of(api_key: str | None) -> httpx.Client:
    """Follows no redirect: a key goes to the server that it was given for and nowhere else."""
    return httpx.Client(
        headers=key_headers(api_key), timeout=TIMEOUT, trust_env=False, follow_redirects=False
    )


def fetch(client: httpx.Client, url: str) -> Fetched:
    """Raises: httpx.HTTPError; StreamError for a page without end."""
    with client.stream("GET", url) as response:
        data = bytearray()
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > MAX_PAGE_BYTES:
                raise StreamError(f"{url} is longer than {MAX_PAGE_BYTES >> 20} MiB")
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return Fetched(response.status_code, kind, data.decode("utf-8", "replace"))


def reason(error: httpx.HTTPError) -> str:
    """Why nothing came, in a few words."""
    if isinstance(error, httpx.ConnectError):
        about_tls = "certificate" in str(error).lower() or "SSL" in str(error)
        return "TLS failed" if about_tls else "no connection"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return f"connection lost ({type(error).__name__})"
