"""Asks one server who it is."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final

import msgspec

from llmtop.peer import root_of
from llmtop.served_models import MODELS_PATH, ServedModel, served_models
from llmtop.sources.page_client import Fetched, PageClient
from profiler.errors import StreamError

FORGETFUL: Final = "/metrics"
"""Where TensorRT-LLM has JSON that it forgets once somebody has read it."""
PAGES: Final = (FORGETFUL, "/prometheus/metrics", "/v1/metrics")
OPENAI: Final = "OpenAI API"
_JSON: Final = "application/json"
# Source: `owned_by` of the engines' own /v1/models; TensorRT-LLM's is the same in all versions.
_OWNERS: Final = {
    "vllm": "vLLM",
    "sglang": "SGLang",
    "llamacpp": "llama.cpp",
    "tensorrt_llm": "TensorRT-LLM",
}
# A page that an engine alone has, and the field with its version.
_OWN_PAGES: Final = {
    "Ollama": ("/api/version", "version"),
    "llama.cpp": ("/props", "build_info"),
    "SGLang": ("/server_info", "version"),
    "TGI": ("/info", "version"),
}
_ANY_VERSION: Final = ("/version", "version")


class Asker:
    """What is told is as the server writes it: not yet fit for a terminal."""

    def __init__(self, client: PageClient, base_url: str) -> None:
        self.root = root_of(base_url)
        self._client = client

    def get(self, path: str) -> Fetched:
        """Raises: StreamError."""
        return self._client.get(self.root + path)

    def told(self, path: str) -> dict[str, Any] | None:
        """The JSON object there, None where there is none."""
        try:
            return object_in(self.get(path))
        except StreamError:
            return None

    @cached_property
    def models(self) -> list[ServedModel]:
        """Raises: StreamError."""
        page = self.get(MODELS_PATH)
        return served_models(page.text) if page.status == 200 else []

    @property
    def model(self) -> str:
        """The first that it lists, "" for none."""
        return self.models[0].id if self.models else ""

    @property
    def forgets(self) -> bool:
        """Whether what is read at `FORGETFUL` is lost to all other readers."""
        return any("tensorrt" in model.owned_by.lower() for model in self.models)

    def version(self, engine: str) -> str:
        """Of a server of this kind, "" where it does not tell."""
        path, field = _OWN_PAGES.get(engine, _ANY_VERSION)
        return _word((self.told(path) or {}).get(field))

    def identity(self) -> tuple[str, str]:
        """Engine and version by what is no page of metrics; "" is what nothing tells."""
        owner = _OWNERS.get(self.models[0].owned_by, "") if self.models else ""
        if owner:
            return owner, self.version(owner)
        for engine, (path, field) in _OWN_PAGES.items():
            told = self.told(path)
            if told is not None:
                return engine, _word(told.get(field))
        return (OPENAI if self.models else ""), ""

    def pages(self, drain: bool = False) -> Iterator[tuple[str, Fetched]]:
        """Where metrics may be, and what is there. Who forgets what was read is known by its
        models, which are asked for first; its page is left alone but for `drain`.

        Raises: StreamError.
        """
        for path in PAGES:
            if path != FORGETFUL or drain or not self.forgets:
                yield path, self.get(path)


def is_json(page: Fetched) -> bool:
    return page.status == 200 and page.content_type == _JSON


def object_in(page: Fetched) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(page.text, type=dict[str, Any]) if page.status == 200 else None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def hello_in(page: Fetched) -> dict[str, Any] | None:
    """What a server of ours says at `HELLO_PATH`, None of any other."""
    told = object_in(page)
    return told if told is not None and "schema" in told else None


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""
