"""What the event stream is told of how pages are packed."""

from __future__ import annotations

from collections.abc import Sequence

from engine.kv.formats import CodeFormat, KVFormat
from engine.kv.packed_plan import PackedPlan
from profiler.events import KvPacking, LayerFormat


def packing_facts(plan: PackedPlan, num_wide_pages: int, dtype: str) -> KvPacking:
    """`dtype` is the engine's own, of all that is not packed."""
    formats = [layout.format for layout in plan.layouts]
    first = plan.layouts[0]
    return KvPacking(
        name=_common_name(formats),
        dtype=dtype,
        layers=tuple(_layer(form, dtype, 8 * first.dtype_bytes) for form in formats),
        page_elements=plan.wide_page_bytes // first.dtype_bytes,
        wide_page_bytes=plan.wide_page_bytes,
        num_wide_pages=num_wide_pages,
        num_sinks=plan.num_sinks,
    )


def _common_name(formats: Sequence[KVFormat]) -> str:
    return formats[0].name if len(set(formats)) == 1 else "mixed"


def _layer(form: KVFormat, dtype: str, dtype_bits: int) -> LayerFormat:
    def name(code: CodeFormat) -> str:
        return code.name if code.is_packed else dtype

    def bits(code: CodeFormat) -> int:
        return code.nbits if code.is_packed else dtype_bits

    key, value = form.key, form.value
    return LayerFormat(name(key), name(value), bits(key), bits(value))
