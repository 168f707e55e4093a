"""Models of the Hugging Face hub."""

from __future__ import annotations

import re
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.errors import ModelError
from engine.models.progress import Progress

HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")
PATTERNS: Final = ["*.safetensors", "*.json", "*.jinja"]
# Folders hold other forms of the weights; "consolidated" files hold the same ones once more.
UNWANTED: Final = ["*/*", "consolidated*"]
POLL_S: Final = 0.1
REASONS: Final = {
    "RepositoryNotFoundError": "there is no such model, or it is private",
    "GatedRepoError": "its owner asks for an agreement first",
    "LocalEntryNotFoundError": "the hub cannot be reached, and the model is not in its cache",
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set, and the model is not in its cache",
}
HINT: Final = "Check the name and the network; log in with `hf auth login` where that is needed."


@dataclass(slots=True)
class _Count:
    """Bytes so far and in all, as the hub's own threads see them."""

    done: int = 0
    total: int = 0


def is_hub_id(model: str) -> bool:
    return HUB_ID.fullmatch(model) is not None


def fetch_hub_model(model: str, progress: Progress) -> Path:
    """The folder of a hub model, in the hub's own cache. Raises: ModelError."""
    count = _Count()
    with ThreadPoolExecutor(1) as pool:
        download = pool.submit(_download, model, count)
        while not _is_done(download):
            progress("fetch", count.done, count.total, "bytes")
    if count.total:
        progress("fetch", count.done, count.total, "bytes")
    return download.result()


def _is_done(download: Future[Path]) -> bool:
    """Waits for a moment, so that `progress` is called by its own thread only, and not often."""
    try:
        download.exception(POLL_S)
    except TimeoutError:
        return False
    return True


def _download(model: str, count: _Count) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            model,
            allow_patterns=PATTERNS,
            ignore_patterns=UNWANTED,
            tqdm_class=_bar_class(count),
            max_workers=4,
        )
    except Exception as error:  # its errors come from several libraries and releases
        name = type(error).__name__
        reason = REASONS.get(name) or (str(error).splitlines() or [name])[0]
        raise ModelError(f"{model} cannot be fetched: {reason}", HINT) from error
    return Path(folder)


def _bar_class(count: _Count) -> Any:
    """A stand-in for tqdm that counts bytes and draws nothing."""
    from huggingface_hub.utils import tqdm

    class CountingBar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # One bar counts the files' bytes; ".transfer" counts them compressed, others files.
            is_transfer = str(kwargs.get("name")).endswith(".transfer")
            self._counts = kwargs.get("unit") == "B" and not is_transfer
            super().__init__(*args, **(kwargs | {"disable": True}))
            self.update(kwargs.get("initial"))

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts:
                count.done += int(n or 0)
                count.total = int(self.total or 0)
            return None

    return CountingBar
