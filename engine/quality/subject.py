"""What is judged: a model on this machine, and windows of a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from engine.attention import create_backend
from engine.errors import EngineError
from engine.models.progress import Progress
from engine.models.registry import ModelRegistry
from engine.models.tokenizer import Tokenizer
from engine.models.weights import load_decoder
from engine.quality.text import Text, token_windows
from engine.runner import DTYPES

if TYPE_CHECKING:
    from engine.attention import Backend
    from engine.models.decoder import Decoder


class Subject(NamedTuple):
    """`windows` are `length` + 1 tokens each."""

    model: str
    decoder: Decoder
    backend: Backend
    text: Text
    windows: list[list[int]]

    @property
    def num_layers(self) -> int:
        return self.decoder.config.num_layers

    @property
    def length(self) -> int:
        return len(self.windows[0]) - 1

    @property
    def dtype_name(self) -> str:
        return str(self.backend.dtype).removeprefix("torch.")

    def describe(self) -> str:
        """In one line, as exactly as another could repeat it."""
        count = len(self.windows)
        windows = f"{count} window" if count == 1 else f"{count} windows"
        return (
            f"{self.model}, {windows} of {self.length} tokens of {self.text.name}"
            f" (sha256 {self.text.sha256[:12]}), {self.dtype_name}"
        )


def load_subject(
    model: str, cache_dir: Path, text: Text, window: int, count: int, dtype: str, progress: Progress
) -> Subject:
    """`count` windows of `window` tokens, and the model on the CPU. Raises: EngineError."""
    folder = ModelRegistry(cache_dir).resolve(model, progress)
    if window > folder.config.max_position:
        raise EngineError(
            f"a window of {window} is beyond the model's {folder.config.max_position} positions",
            "Take a smaller --window.",
        )
    # Before the weights: a text that is too short is said at once.
    windows = token_windows(text, Tokenizer.load(folder.path), window, count)
    backend = create_backend(torch.device("cpu"), DTYPES[dtype], None)
    return Subject(folder.name, load_decoder(folder, backend, progress), backend, text, windows)
