"""Where the device's memory went."""

from __future__ import annotations

from profiler.events import MemorySample
from profiler.folds.gpus import Gpus


class MemoryProfiler:
    """`last` is what the engine says of itself; what the device holds beyond that is "other"."""

    def __init__(self, gpus: Gpus) -> None:
        self._gpus = gpus
        self.last: MemorySample | None = None

    def sample(self, event: MemorySample) -> None:
        self.last = event

    @property
    def engine_bytes(self) -> int | None:
        """The parts the engine names, together."""
        return None if self.last is None else sum(size for _, size in self._named(self.last))

    @property
    def total_bytes(self) -> int | None:
        """The whole device, as the engine was told."""
        return None if self.last is None else self.last.total_bytes

    @property
    def other_bytes(self) -> int | None:
        """In use on the engine's device, but by none of its parts; None where NVML does not say."""
        if self.last is None or self.engine_bytes is None:
            return None
        used = self._gpus.mem_used_bytes(self.last.device)
        if used is None:
            return None
        return max(0, used - self.engine_bytes)

    def parts(self) -> list[tuple[str, int]]:
        """(name, bytes) of weights, kv and, where the engine has or knows them, activations and
        graphs; of other, where NVML tells."""
        if self.last is None:
            return []
        other = self.other_bytes
        return self._named(self.last) + ([] if other is None else [("other", other)])

    @staticmethod
    def _named(sample: MemorySample) -> list[tuple[str, int]]:
        # An engine that does not measure these (on a CPU) says 0, which is no number to show.
        beside = (("activations", sample.activation_bytes), ("graphs", sample.graph_bytes))
        return [
            ("weights", sample.weights_bytes),
            ("kv", sample.kv_bytes),
            *((name, size) for name, size in beside if size),
        ]
