"""How much memory a model's weights and pages take. No torch."""

from __future__ import annotations

from engine.errors import DoesNotFitError
from engine.kv.packed_plan import PackedPlan
from engine.models.config import ModelConfig

GIB = 1 << 30


class MemoryEstimator:
    """Bytes from shapes alone; a tied head counts once. With `packed` its pages are counted."""

    def __init__(
        self,
        config: ModelConfig,
        dtype_bytes: int,
        block_size: int,
        packed: PackedPlan | None = None,
    ) -> None:
        self._config = config
        self._packed = packed
        self._dtype_bytes = dtype_bytes
        self._block_size = block_size

    @property
    def weights_bytes(self) -> int:
        return self._config.num_parameters * self._dtype_bytes

    @property
    def kv_bytes_per_token(self) -> int:
        """K and V of one token in all layers; of a full page's where pages are packed."""
        if self._packed is not None:
            return -(-self._packed.page_bytes // self._block_size)
        config = self._config
        return 2 * config.num_layers * config.num_kv_heads * config.head_dim * self._dtype_bytes

    @property
    def page_bytes(self) -> int:
        if self._packed is not None:
            return self._packed.page_bytes
        return self.kv_bytes_per_token * self._block_size

    def pages_that_fit(self, available_bytes: int, max_model_len: int) -> int:
        """Pages in the memory that the weights leave.

        Raises: DoesNotFitError if not even one sequence of `max_model_len` tokens has place.
        """
        left_bytes = available_bytes - self.weights_bytes
        if left_bytes <= 0:
            raise DoesNotFitError(
                f"The weights need {_gib(self.weights_bytes)}, and {_gib(available_bytes)}"
                " are there",
                "Take a smaller model, or give more with --gpu-memory-utilization.",
            )
        pages = left_bytes // self.page_bytes
        if pages * self._block_size < max_model_len:
            raise DoesNotFitError(
                f"One sequence of {max_model_len} tokens needs"
                f" {_gib(max_model_len * self.kv_bytes_per_token)} for its KV cache,"
                f" and {_gib(left_bytes)} are left beside the weights",
                f"--max-model-len {pages * self._block_size} fits.",
            )
        return pages


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.2f} GiB"
