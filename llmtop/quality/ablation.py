"""Every format as it is, and what each choice in it is worth."""

from __future__ import annotations

from typing import Final

from engine.kv.formats import KV_FORMATS, CodeFormat, KVFormat
from engine.quality.cached import CacheShape
from engine.quality.evaluation import Candidate

_K4: Final = CodeFormat(4, axis="channel")
_V4: Final = CodeFormat(4)
# One choice of int4's changed at a time; then all against it, as a plain per-token cache has it.
CHANGED: Final = {
    "int4, K per token": KVFormat(CodeFormat(4), _V4),
    "int4, K symmetric": KVFormat(CodeFormat(4, axis="channel", asym=False), _V4),
    "int4, V symmetric": KVFormat(_K4, CodeFormat(4, asym=False)),
    "int4, V groups of 32": KVFormat(_K4, CodeFormat(4, group=32)),
    "int4, both per token, symmetric": KVFormat(
        CodeFormat(4, asym=False), CodeFormat(4, asym=False)
    ),
    "int8, K per token": KVFormat(CodeFormat(8), CodeFormat(8)),
    "fp8, K per token": KVFormat(CodeFormat(8, "float"), CodeFormat(8, "float")),
    "int2, K per token": KVFormat(CodeFormat(2), CodeFormat(2, group=32)),
}
PAGE_SIZES: Final = (16, 32, 128)
NUM_RECENT: Final = (1, 2)


def ablation(num_layers: int, num_sinks: int) -> list[Candidate]:
    """Named formats first, then int4 and others with one thing changed."""
    usual = CacheShape(num_sinks=num_sinks)
    formats = KV_FORMATS | CHANGED
    alike = [Candidate.uniform(*named, num_layers, usual) for named in formats.items()]
    int4 = [KV_FORMATS["int4"]] * num_layers
    other_sinks = [
        Candidate(f"int4, {_sinks(count)}", int4, CacheShape(num_sinks=count))
        for count in (0, 1, 2)
        if count != num_sinks
    ]
    pages = [
        Candidate(f"int4, page of {size}", int4, CacheShape(size, num_sinks)) for size in PAGE_SIZES
    ]
    recent = [
        Candidate(f"int4, {_recent(count)}", int4, usual._replace(num_recent=count))
        for count in NUM_RECENT
    ]
    return alike + other_sinks + pages + recent


def _recent(count: int) -> str:
    return f"{count} page{'s' * (count > 1)} before a token's own not packed"


def _sinks(count: int) -> str:
    return "no sink page" if count == 0 else f"{count} sink pages" if count > 1 else "1 sink page"
