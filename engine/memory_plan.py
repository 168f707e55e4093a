"""How many pages there will be, and how long a request may get with them."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch

from engine.config import EngineConfig
from engine.devices import cpu_memory_available
from engine.errors import DoesNotFitError, InvalidRequestError
from engine.models.config import ModelConfig
from engine.models.memory import GIB, MemoryEstimator

# Pages that nobody asked for cost nothing before they are touched, but they look like a promise.
CPU_KV_LIMIT_BYTES: Final = 4 * GIB
CPU_KV_SHARE: Final = 0.4
# What the running requests can hold at most, and as much again for prefixes.
SEATS_WORTH: Final = 2


class PagePlan(NamedTuple):
    num_pages: int
    page_bytes: int
    max_model_len: int


class MemoryPlanner:
    """Divides the device's memory between weights, one step's activations and pages."""

    def __init__(
        self, config: EngineConfig, shape: ModelConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._config = config
        self._max_position = shape.max_position
        self._device = device
        self._estimator = MemoryEstimator(shape, dtype.itemsize, config.block_size)
        self.weights_bytes = self._estimator.weights_bytes

    def before_loading(self) -> PagePlan:
        """What can be said from shapes alone. Raises: DoesNotFitError, InvalidRequestError."""
        return self._plan(self._capacity_bytes() - self.weights_bytes)

    def after_loading(self, activation_bytes: int) -> PagePlan:
        """What is really left once the weights are there and a step was run."""
        return self._plan(self._capacity_bytes() - activation_bytes)

    def _capacity_bytes(self) -> int:
        """What we may still take of the device's memory: of a GPU our own share, others or not."""
        if self._device.type != "cuda":
            return cpu_memory_available()
        free, total = torch.cuda.mem_get_info(self._device)
        ours = int(total * self._config.gpu_memory_utilization)
        return int(min(free, ours - torch.cuda.memory_reserved(self._device)))

    def _plan(self, left_bytes: int) -> PagePlan:
        """The pages of `left_bytes`, which is what the weights leave (or less than none)."""
        config, page_bytes = self._config, self._estimator.page_bytes
        wanted_len = self._wanted_len()
        kv_bytes = self._kv_bytes(left_bytes)
        if kv_bytes > left_bytes:
            raise DoesNotFitError(
                f"{kv_bytes / GIB:.2f} GiB of pages were asked for, and"
                f" {max(0, left_bytes) / GIB:.2f} GiB are left beside the weights",
                "Ask for less with --kv-cache-memory-bytes or --num-gpu-blocks-override.",
            )
        num_pages = self._estimator.pages_that_fit(
            self.weights_bytes + kv_bytes, config.max_model_len or 1
        )
        max_model_len = min(wanted_len, num_pages * config.block_size)
        if not self._is_asked_for:
            pages_per_seq = -(-max_model_len // config.block_size)
            num_pages = min(num_pages, SEATS_WORTH * config.scheduler.max_num_seqs * pages_per_seq)
        return PagePlan(num_pages, page_bytes, max_model_len)

    @property
    def _is_asked_for(self) -> bool:
        config = self._config
        return (config.num_gpu_blocks_override or config.kv_cache_memory_bytes) is not None

    def _kv_bytes(self, left_bytes: int) -> int:
        config = self._config
        if config.num_gpu_blocks_override is not None:
            return config.num_gpu_blocks_override * self._estimator.page_bytes
        if config.kv_cache_memory_bytes is not None:
            return config.kv_cache_memory_bytes
        if self._device.type == "cuda" or left_bytes <= 0:
            return left_bytes
        return min(int(left_bytes * CPU_KV_SHARE), CPU_KV_LIMIT_BYTES)

    def _wanted_len(self) -> int:
        wanted = self._config.max_model_len or self._max_position
        if wanted > self._max_position:
            raise InvalidRequestError(
                f"max_model_len {wanted} is above the {self._max_position} positions of the model",
                "max_model_len",
            )
        return wanted
