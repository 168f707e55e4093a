"""Models of the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from engine.errors import ModelError
from engine.models.progress import Progress

HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")
PATTERNS: Final = ["*.safetensors", "*.json", "*.jinja"]
REASONS: Final = {
    "RepositoryNotFoundError": "there is no such model, or it is private",
    "GatedRepoError": "its owner asks for an agreement first",
    "LocalEntryNotFoundError": "the hub cannot be reached, and the model is not in its cache",
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set, and the model is not in its cache",
}
HINT: Final = "Check the name and the network; log in with `hf auth login` where that is needed."


def is_hub_id(model: str) -> bool:
    return HUB_ID.fullmatch(model) is not None


def fetch_hub_model(model: str, progress: Progress) -> Path:
    """The folder of a hub model, in the hub's own cache. Raises: ModelError."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            model, allow_patterns=PATTERNS, tqdm_class=_bar_class(progress), max_workers=4
        )
    except Exception as error:  # its errors come from several libraries and releases
        name = type(error).__name__
        reason = REASONS.get(name) or (str(error).splitlines() or [name])[0]
        raise ModelError(f"{model} cannot be fetched: {reason}", HINT) from error
    return Path(folder)


def _bar_class(progress: Progress) -> Any:
    """A stand-in for tqdm that reports bytes to `progress` and draws nothing."""
    from huggingface_hub.utils import tqdm

    class ReportingBar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._is_bytes = kwargs.get("unit") == "B"
            super().__init__(*args, **(kwargs | {"disable": True}))
            self._done = int(kwargs.get("initial") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            self._done += int(n or 0)
            if self._is_bytes:
                progress("fetch", self._done, int(self.total or 0), "bytes")
            return None

    return ReportingBar
