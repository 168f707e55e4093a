"""A model on disk in Hugging Face layout: the one form every source is brought into. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.errors import ModelError
from engine.models.config import ModelConfig, read_json

INDEX_NAME = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """`name` is what the server calls the model. A random model's folder holds a config alone."""

    path: Path
    name: str
    config: ModelConfig

    @classmethod
    def open(cls, path: Path, name: str | None = None) -> ModelFolder:
        """The model in `path`, its weight files found but not read. Raises: ModelError."""
        if not path.is_dir():
            raise ModelError(f"{path} is not a folder", "Name a folder in Hugging Face layout.")
        folder = cls(path, name or path.resolve().name, ModelConfig.load(path))
        folder.weight_files()
        return folder

    @property
    def is_random(self) -> bool:
        return self.config.random_weights

    def weight_files(self) -> list[Path]:
        """The safetensors files, one or the shards of the index. Raises: ModelError."""
        if self.is_random:
            return []
        index, single = self.path / INDEX_NAME, self.path / "model.safetensors"
        if single.is_file():
            return [single]
        if index.is_file():
            files = [self.path / name for name in _shard_names(index)]
        else:
            files = sorted(self.path.glob("*.safetensors"))
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise ModelError(f"{self.path} lacks {missing[0]}", "Fetch the model again.")
        if not files:
            raise ModelError(
                f"{self.path} holds no .safetensors file",
                "Weights in other formats (.bin, .pth) are not read; convert them first.",
            )
        return files


def _shard_names(index: Path) -> list[str]:
    """The files that an index names, which must lie beside it. Raises: ModelError."""
    weight_map = read_json(index).get("weight_map")
    names = set(map(str, weight_map.values())) if isinstance(weight_map, dict) else set()
    if not names or any(Path(name).name != name for name in names):
        raise ModelError(f"{index} does not name files beside it", "Fetch the model again.")
    return sorted(names)
