"""The models that a server of OpenAI's API lists."""

from __future__ import annotations

from typing import Final

import msgspec

MODELS_PATH: Final = "/v1/models"


class ServedModel(msgspec.Struct, frozen=True):
    """As the server writes it: not yet fit for a terminal. What it leaves out is "" or None."""

    id: str = ""
    owned_by: str = ""
    max_model_len: int | None = None


class _Listed(msgspec.Struct):
    data: list[ServedModel] | None = None  # Ollama's is null while it has none


def served_models(body: bytes | str) -> list[ServedModel]:
    """In the server's order, none where `body` is no list of models."""
    try:
        return msgspec.json.decode(body, type=_Listed, strict=False).data or []
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return []
