"""From a configuration to a model that can take steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from engine.ceilings import Ceilings
from engine.config import EngineConfig
from engine.models.folder import ModelFolder
from engine.models.progress import Progress
from engine.plan import Runner


class Loaded(NamedTuple):
    """`ceilings` are None where the device was not measured."""

    folder: ModelFolder
    runner: Runner
    ceilings: Ceilings | None = None


Loader = Callable[[EngineConfig, Path, Progress], Loaded]


def load_model(config: EngineConfig, cache_dir: Path, progress: Progress) -> Loaded:
    """The configured model, fetched if need be, on its device. Raises: EngineError."""
    from engine.models.registry import ModelRegistry
    from engine.runner import ModelRunner  # torch: seconds that a fake runner does not pay

    folder = ModelRegistry(cache_dir).resolve(config.model, progress)
    return Loaded(folder, ModelRunner(config, folder, progress))
