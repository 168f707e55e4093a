"""How many pages there will be, and how long a request may get with them."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch

from engine.config import EngineConfig
from engine.devices import cpu_memory_available
from engine.errors import InvalidRequestError
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
        return self._plan(self._total_bytes() - self.weights_bytes)

    def after_loading(self, activation_bytes: int) -> PagePlan:
        """On CUDA, what is really left once the weights are there and a step was run."""
        if self._device.type != "cuda":
            return self.before_loading()
        return self._plan(self._total_bytes() - activation_bytes)

    def _total_bytes(self) -> int:
        """What we may still take of the device's memory."""
        config = self._config
        if self._device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self._device)
            return int(total * config.gpu_memory_utilization - (total - free))
        available = cpu_memory_available()
        kv_bytes = int((available - self.weights_bytes) * CPU_KV_SHARE)
        return min(available, self.weights_bytes + min(kv_bytes, CPU_KV_LIMIT_BYTES))

    def _plan(self, kv_bytes: int) -> PagePlan:
        config, page_bytes = self._config, self._estimator.page_bytes
        if config.num_gpu_blocks_override is not None:
            kv_bytes = config.num_gpu_blocks_override * page_bytes
        elif config.kv_cache_memory_bytes is not None:
            kv_bytes = config.kv_cache_memory_bytes
        wanted_len = self._wanted_len()
        shortest = config.max_model_len or 1
        num_pages = self._estimator.pages_that_fit(self.weights_bytes + kv_bytes, shortest)
        max_model_len = min(wanted_len, num_pages * config.block_size)
        if config.num_gpu_blocks_override is None and config.kv_cache_memory_bytes is None:
            pages_per_seq = -(-max_model_len // config.block_size)
            most = SEATS_WORTH * config.scheduler.max_num_seqs * pages_per_seq
            num_pages = min(num_pages, most)
        return PagePlan(num_pages, page_bytes, max_model_len)

    def _wanted_len(self) -> int:
        wanted = self._config.max_model_len or self._max_position
        if wanted > self._max_position:
            raise InvalidRequestError(
                f"max_model_len {wanted} is above the {self._max_position} positions of the model",
                "max_model_len",
            )
        return wanted
