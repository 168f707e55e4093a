"""Writing a model folder: weights as bf16 safetensors, a bounded part of them in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.models.folder import INDEX_NAME

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

SHARD_BYTES: Final = 2 << 30


class CheckpointWriter:
    """Collects tensors and writes one file, or shards and their index. `close` ends it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pending: dict[str, Tensor] = {}
        self._pending_bytes = 0
        self._shards: list[list[str]] = []
        self._total_bytes = 0

    def add(self, name: str, values: NDArray[np.float32]) -> None:
        """Takes one tensor and keeps its bf16 form."""
        import torch

        self._pending[name] = torch.from_numpy(values).to(torch.bfloat16)
        self._pending_bytes += self._pending[name].nbytes
        if self._pending_bytes >= SHARD_BYTES:
            self._write_shard()

    def close(self) -> None:
        if self._pending:
            self._write_shard()
        if len(self._shards) == 1:
            self._shard_path(0).rename(self._folder / "model.safetensors")
        else:
            self._write_index()

    def _shard_path(self, number: int) -> Path:
        return self._folder / f"model-{number + 1:05}.safetensors"

    def _write_shard(self) -> None:
        from safetensors.torch import save_file

        save_file(self._pending, self._shard_path(len(self._shards)), {"format": "pt"})
        self._shards.append(list(self._pending))
        self._total_bytes += self._pending_bytes
        self._pending, self._pending_bytes = {}, 0

    def _write_index(self) -> None:
        weight_map = {
            name: self._shard_path(number).name
            for number, names in enumerate(self._shards)
            for name in names
        }
        index = {"metadata": {"total_size": self._total_bytes}, "weight_map": weight_map}
        (self._folder / INDEX_NAME).write_text(json.dumps(index), encoding="utf-8")
