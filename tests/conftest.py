"""What tests of every part share: the default model, fetched once into the person's own cache."""

from __future__ import annotations

import os

import pytest

# Before torch is imported anywhere: the suite runs beside other work, and tiny models gain nothing.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from engine.errors import ModelError
from engine.models.folder import ModelFolder
from engine.models.registry import DEFAULT_MODEL, ModelRegistry
from llmtop.paths import cache_dir


@pytest.fixture(scope="session")
def smollm2() -> ModelFolder:
    """The default model's folder; skips where it is neither cached nor to be fetched."""
    try:
        return ModelRegistry(cache_dir()).resolve(DEFAULT_MODEL)
    except ModelError as error:
        pytest.skip(f"the default model is not here: {error.message}")
