"""What is judged: a model on this machine, and windows of a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from engine.attention import Backend
    from engine.models.decoder import Decoder
    from engine.quality.text import Text
    from llmtop.quality.bar import Bar


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

    def describe(self) -> str:
        """In one line, as exactly as another could repeat it."""
        return (
            f"{self.model}, {len(self.windows)} windows of {self.length} tokens of {self.text.name}"
            f" (sha256 {self.text.sha256[:12]}), {str(self.backend.dtype).removeprefix('torch.')}"
        )


def load_subject(
    model: str | None, text_file: str | None, window: int, num_tokens: int, dtype: str, bar: Bar
) -> Subject:
    """Raises: EngineError, click.UsageError."""
    import torch

    from engine.attention import create_backend
    from engine.config import EngineConfig
    from engine.models.registry import ModelRegistry
    from engine.models.tokenizer import Tokenizer
    from engine.models.weights import load_decoder
    from engine.quality.text import default_text, read_text, token_windows
    from engine.runner import DTYPES
    from llmtop.paths import cache_dir

    count = num_tokens // window
    if count < 1:
        raise click.UsageError(f"--tokens {num_tokens} is less than one --window of {window}")
    text = default_text() if text_file is None else read_text(Path(text_file))
    folder = ModelRegistry(cache_dir()).resolve(model or EngineConfig().model, bar.phase)
    if window > folder.config.max_position:
        raise click.UsageError(
            f"--window {window} is beyond the model's {folder.config.max_position} positions"
        )
    # Before the weights: a text that is too short is said at once.
    windows = token_windows(text, Tokenizer.load(folder.path), window, count)
    backend = create_backend(torch.device("cpu"), DTYPES[dtype], None)
    decoder = load_decoder(folder, backend, bar.phase)
    return Subject(folder.name, decoder, backend, text, windows)
