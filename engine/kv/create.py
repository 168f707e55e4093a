"""The bookkeeping that fits a runner's pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.kv.cache import PagedKVCache
from engine.kv.quantized import QuantizedKVCache

if TYPE_CHECKING:
    from engine.config import EngineConfig
    from engine.plan import Runner


def create_cache(config: EngineConfig, runner: Runner) -> PagedKVCache:
    """With wide pages beside packed ones where the runner packs."""
    if runner.packed is None:
        return PagedKVCache(runner.num_pages, config.page_tokens, config.enable_prefix_caching)
    return QuantizedKVCache(
        runner.num_pages,
        config.page_tokens,
        config.enable_prefix_caching,
        runner.num_wide_pages,
        runner.packed,
    )
