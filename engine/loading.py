"""From a configuration to a model that can take steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from engine.ceilings import Ceilings
from engine.config import EngineConfig
from engine.errors import DoesNotFitError
from engine.models.folder import ModelFolder
from engine.models.progress import Progress
from engine.plan import Runner

if TYPE_CHECKING:
    from engine.runner import ModelRunner


class Loaded(NamedTuple):
    """`ceilings` are None where the device was not measured."""

    folder: ModelFolder
    runner: Runner
    ceilings: Ceilings | None = None


NO_MEMORY: Final = "memory ran out while the model was made ready for the largest step"
LESS_MEMORY: Final = (
    "Ask for less with --max-num-batched-tokens, --max-num-seqs, --max-model-len or, on a GPU,"
    " --gpu-memory-utilization."
)

Loader = Callable[[EngineConfig, Path, Progress], Loaded]


def load_model(config: EngineConfig, cache_dir: Path, progress: Progress) -> Loaded:
    """The configured model, fetched if need be, on its device. Raises: EngineError."""
    from engine.models.registry import ModelRegistry

    folder = ModelRegistry(cache_dir).resolve(config.model, progress)
    return Loaded(folder, make_runner(config, folder, progress))


def make_runner(config: EngineConfig, folder: ModelFolder, progress: Progress) -> ModelRunner:
    """Raises: EngineError, also where memory runs out on the way."""
    from engine.devices import is_out_of_memory
    from engine.runner import ModelRunner  # torch: seconds that a fake runner does not pay

    try:
        return ModelRunner(config, folder, progress)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise DoesNotFitError(NO_MEMORY, LESS_MEMORY) from error
        raise
