"""How many pages there will be, and how long a request may get with them."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch

from engine.config import EngineConfig
from engine.devices import cpu_memory_available
from engine.errors import DoesNotFitError, EngineError, InvalidRequestError
from engine.kv.kv_config import layer_formats
from engine.kv.packed_plan import PackedPlan, packed_plan
from engine.models.config import ModelConfig
from engine.models.memory import GIB, MemoryEstimator

# Pages that nobody asked for cost nothing before they are touched, but they look like a promise.
CPU_KV_LIMIT_BYTES: Final = 4 * GIB
CPU_KV_SHARE: Final = 0.4
# What the running requests can hold at most, and as much again for prefixes.
SEATS_WORTH: Final = 2
MIB: Final = 1 << 20
# The kernels look at the first entry of a block table alone to see whether it is a wide page.
MOST_SINKS_ON_GPU: Final = 1


class PagePlan(NamedTuple):
    num_pages: int
    page_bytes: int
    max_model_len: int
    num_wide_pages: int = 0


def plan_packing(
    config: EngineConfig, shape: ModelConfig, dtype_bytes: int, device: torch.device
) -> PackedPlan | None:
    """None where pages are not packed. Raises: EngineError."""
    if not config.packs_pages:
        return None
    if device.type == "cuda" and config.kv_sink_pages > MOST_SINKS_ON_GPU:
        raise EngineError(
            f"On a GPU a request keeps {MOST_SINKS_ON_GPU} page unpacked at most, not"
            f" {config.kv_sink_pages}",
            "Give --kv-sink-pages 0 or 1.",
        )
    scheduler = config.scheduler
    longest = config.max_model_len or shape.max_position
    step_tokens = config.step_tokens
    if not scheduler.enable_chunked_prefill:
        step_tokens = max(step_tokens, longest)
    # Two steps are under way at once where one is launched before the other's end.
    num_steps = 1 + scheduler.runs_ahead(device.type)
    return packed_plan(
        layer_formats(config.kv_cache_dtype, config.kv_config, shape.num_layers),
        shape.num_kv_heads,
        shape.head_dim,
        config.page_tokens,
        dtype_bytes,
        config.kv_sink_pages,
        step_tokens * num_steps,
    )


class MemoryPlanner:
    """Divides the device's memory between weights, one step's activations and pages.

    Raises: EngineError from the constructor if pages cannot be packed as the configuration says.
    """

    def __init__(
        self, config: EngineConfig, shape: ModelConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._config = config
        self.packed = plan_packing(config, shape, dtype.itemsize, device)
        self._max_position = shape.max_position
        self._device = device
        self._estimator = MemoryEstimator(shape, dtype.itemsize, config.page_tokens, self.packed)
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
        num_wide = self._num_wide(kv_bytes)
        self._require_wide(num_wide, kv_bytes)
        num_pages = self._estimator.pages_that_fit(
            self.weights_bytes + kv_bytes - self._wide_bytes(num_wide), config.max_model_len or 1
        )
        max_model_len = min(wanted_len, num_pages * config.page_tokens)
        if not self._is_asked_for:
            pages_per_seq = -(-max_model_len // config.page_tokens)
            num_pages = min(num_pages, SEATS_WORTH * config.scheduler.max_num_seqs * pages_per_seq)
        return PagePlan(num_pages, page_bytes, max_model_len, num_wide)

    @property
    def _is_asked_for(self) -> bool:
        config = self._config
        return (config.num_gpu_blocks_override or config.kv_cache_memory_bytes) is not None

    def _kv_bytes(self, left_bytes: int) -> int:
        config = self._config
        num_pages = config.num_gpu_blocks_override
        if num_pages is not None:
            wide_bytes = self._wide_bytes(self._most_wide(num_pages))
            return num_pages * self._estimator.page_bytes + wide_bytes
        if config.kv_cache_memory_bytes is not None:
            return config.kv_cache_memory_bytes
        if self._device.type == "cuda" or left_bytes <= 0:
            return left_bytes
        return min(int(left_bytes * CPU_KV_SHARE), CPU_KV_LIMIT_BYTES)

    def _num_wide(self, kv_bytes: int) -> int:
        """Of all that pages may take, half at most: then fewer sequences run at once."""
        packed, asked = self.packed, self._config.num_gpu_blocks_override
        if packed is None:
            return 0
        if asked is not None:
            return self._most_wide(asked)
        half = kv_bytes // 2 // packed.wide_page_bytes
        return max(packed.num_wide_for(1), min(half, self._most_wide(half)))

    def _require_wide(self, num_wide: int, kv_bytes: int) -> None:
        """Raises: DoesNotFitError if wide pages leave no place for a packed one."""
        wide_bytes = self._wide_bytes(num_wide)
        if wide_bytes and wide_bytes + self._estimator.page_bytes > kv_bytes > 0:
            raise DoesNotFitError(
                f"{num_wide} pages that are being written need {wide_bytes / MIB:.1f} MiB, and the"
                f" whole KV cache has {kv_bytes / MIB:.1f} MiB",
                "Give it more, or lower --max-num-batched-tokens or --kv-sink-pages.",
            )

    def _most_wide(self, num_pages: int) -> int:
        """As many wide pages as will ever be in use beside so many packed ones."""
        if self.packed is None:
            return 0
        return self.packed.num_wide_for(min(num_pages, self._config.scheduler.max_num_seqs))

    def _wide_bytes(self, num_wide: int) -> int:
        return 0 if self.packed is None else num_wide * self.packed.wide_page_bytes

    def _wanted_len(self) -> int:
        wanted = self._config.max_model_len or self._max_position
        if wanted > self._max_position:
            raise InvalidRequestError(
                f"max_model_len {wanted} is above the {self._max_position} positions of the model",
                "max_model_len",
            )
        return wanted
