"""What serves a model on this host: asks every port that listens what it is.

Each is sent a few GETs for pages that tell of a server, with no key and no prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from llmtop.errors import LlmtopError
from llmtop.sanitize import clean_line
from llmtop.sources.asker import Asker
from llmtop.sources.page_client import Limits, PageClient
from llmtop.sources.probing import UnshownError, find
from profiler.errors import StreamError

BRIEF: Final = Limits(step_s=1.0, whole_s=2.0, max_bytes=4 << 20)
_AT_ONCE: Final = 16


class Found(msgspec.Struct, frozen=True):
    """A server that answered. `note` says why it cannot be watched, "" where it can."""

    url: str
    engine: str
    version: str
    model: str
    note: str = ""


def discover(urls: Sequence[str]) -> list[Found]:
    """Those of `urls` where a server is that is known, in their order; within seconds."""
    with ThreadPoolExecutor(_AT_ONCE, "llmtop-discovery") as pool:
        return [found for found in pool.map(_look, urls) if found is not None]


def _look(url: str) -> Found | None:
    try:
        with PageClient(limits=BRIEF) as client:
            target = find(Asker(client, url))
    except UnshownError as error:
        return Found(url, error.engine, "", "", f"{error.what}; {error.hint}")
    except (StreamError, LlmtopError):
        return None
    version, model = clean_line(target.version), clean_line(target.model)
    return Found(url, target.engine.name, version, model)
