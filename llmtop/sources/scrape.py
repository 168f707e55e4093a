"""One page of a server, fetched within bounds: of time, of size, and of where the key may go."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final, NamedTuple

import httpx

from llmtop.peer import key_headers
from llmtop.trust import trusted
from profiler.errors import StreamError
from profiler.foreign.page import MAX_PAGE_BYTES


@dataclass(frozen=True, slots=True)
class Limits:
    """`step_s` to connect, and from one piece of the answer to the next; `whole_s` for all of it:
    a server that sends a byte now and then keeps nobody for ever."""

    step_s: float = 5.0
    whole_s: float = 10.0
    max_bytes: int = MAX_PAGE_BYTES


PATIENT: Final = Limits()


class Fetched(NamedTuple):
    status: int
    content_type: str
    text: str


def client_of(api_key: str | None, limits: Limits = PATIENT) -> httpx.Client:
    """Follows no redirect: a key goes to the server that it was given for and nowhere else."""
    return httpx.Client(
        headers=key_headers(api_key),
        timeout=limits.step_s,
        trust_env=False,
        verify=trusted(),
        follow_redirects=False,
    )


def fetch(client: httpx.Client, url: str, limits: Limits = PATIENT) -> Fetched:
    """Raises: httpx.HTTPError; StreamError for a page without end."""
    until_s = time.monotonic() + limits.whole_s
    with client.stream("GET", url) as response:
        data = bytearray()
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > limits.max_bytes:
                raise StreamError(f"{url} is longer than {limits.max_bytes >> 20} MiB")
            if time.monotonic() > until_s:
                raise httpx.ReadTimeout(f"{url} takes longer than {limits.whole_s:.0f} s")
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
