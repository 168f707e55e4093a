"""How a server is addressed over HTTP: by its root, with or without a key."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import urlsplit

HELLO_PATH: Final = "/v1/llmtop/hello"
"""What a server of ours says of itself, and no other server answers."""
STREAM_PATH: Final = "/v1/llmtop/events"
"""Its event stream."""
OWNER_HEADER: Final = "x-llmtop-owner"
"""Carries the key of who started the server."""

KEY_HINT: Final = "put it into LLMTOP_API_KEY, or name its variable with --api-key-env"
"""What to do where a server refuses the key that it was given, or none."""


class Address(NamedTuple):
    """Where a server is, and the key that is meant for it alone."""

    url: str
    api_key: str | None = None

    @property
    def name(self) -> str:
        """For people: without the scheme."""
        parts = urlsplit(self.url)
        return f"{parts.netloc}{parts.path}"


def root_of(base_url: str) -> str:
    """The address without the /v1 that clients of the API write."""
    return base_url.rstrip("/").removesuffix("/v1").rstrip("/")


def key_headers(api_key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {api_key}"} if api_key else {}
