"""Where a server publishes its KV events, as a person writes it."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from llmtop.errors import LlmtopError


class KvEndpoints(NamedTuple):
    """Where batches are published and, "" for nowhere, where older ones are sent when asked for."""

    live: str
    replay: str


def kv_endpoints(text: str, url: str) -> KvEndpoints:
    """`tcp://HOST:PORT`, with a comma and another behind it for the replay endpoint. A host of `*`,
    as vLLM's own flag has it, is that of `url`. Raises: LlmtopError."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 2:
        raise LlmtopError(f"{text!r} names more than two endpoints", _HINT, exit_code=2)
    host = urlsplit(url).hostname or "127.0.0.1"
    live, replay = (_endpoint(part, host) for part in [*parts, ""][:2])
    if not live:
        raise LlmtopError("no endpoint of KV events", _HINT, exit_code=2)
    return KvEndpoints(live, replay)


_HINT = "write what vLLM's --kv-events-config has: tcp://HOST:5557,tcp://HOST:5558"


def _endpoint(text: str, host: str) -> str:
    if not text or (text.startswith("ipc://") and text.isprintable()):
        return text
    try:
        parts = urlsplit(text if "://" in text else f"tcp://{text}")
        port, named = parts.port, parts.hostname
    except ValueError:
        port = named = None
    if not port or not named or parts.scheme != "tcp" or parts.path or not text.isprintable():
        raise LlmtopError(f"{text!r} is no endpoint of KV events", _HINT, exit_code=2)
    shown = host if named == "*" else named
    return f"tcp://[{shown}]:{port}" if ":" in shown else f"tcp://{shown}:{port}"
