"""From a configuration to a model that can take steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from engine.config import EngineConfig
from engine.models.folder import ModelFolder
from engine.plan import Runner

# Called with the phase ("fetch", "convert", "load", "warmup"), how much of it is done, the total
# (0: not known) and the unit of both.
Progress = Callable[[str, int, int, str], None]


class Loaded(NamedTuple):
    folder: ModelFolder
    runner: Runner


Loader = Callable[[EngineConfig, Path, Progress], Loaded]


def load_model(config: EngineConfig, cache_dir: Path, progress: Progress) -> Loaded:
    """The configured model, fetched if need be, on its device. Raises: EngineError."""
    from engine.models.registry import ModelRegistry
    from engine.runner import ModelRunner  # torch: seconds that a fake runner does not pay

    folder = ModelRegistry(cache_dir).resolve(config.model, progress)
    return Loaded(folder, ModelRunner(config, folder, progress))


def quiet(phase: str, done: int, total: int, unit: str) -> None:
    """Progress that tells nobody."""
