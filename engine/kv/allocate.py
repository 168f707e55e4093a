"""The page pools of a model's layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.attention import Backend, LayerPool
    from engine.kv.packed_plan import PackedPlan
    from engine.models.config import ModelConfig


def allocate_pools(
    backend: Backend,
    shape: ModelConfig,
    block_size: int,
    packed: PackedPlan | None,
    num_written: int,
    num_packed: int,
) -> list[LayerPool]:
    """One a layer, of `num_written` pages that tokens are written to; with `packed` there are
    `num_packed` packed ones beside them. Raises: EngineError."""
    heads = shape.num_kv_heads
    if packed is None:
        pool = backend.allocate_pool
        return [
            pool(num_written, heads, block_size, shape.head_dim) for _ in range(shape.num_layers)
        ]
    return [
        backend.allocate_packed_pool(num_written, num_packed, heads, layout)
        for layout in packed.layouts
    ]
