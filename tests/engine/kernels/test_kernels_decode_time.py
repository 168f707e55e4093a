"""What `llmtop bench kv` times on a GPU is attention of a real step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from engine.kv.formats import KV_FORMATS, RecordLayout
from engine.models.config import ModelConfig
from engine.quality import decode_time
from engine.quality.decode_time import DecodeClock, DecodeLoad, graph_us

SHAPE = ModelConfig("llama", 3, 64, 64, 2, 1, 64, 100, 1000)


def clock_on(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> DecodeClock:
    monkeypatch.setattr(decode_time, "DTYPE", torch.float16)
    monkeypatch.setattr(decode_time, "CACHE_BYTES", 1)
    return DecodeClock(SHAPE, DecodeLoad(size=2, context=40), device)


@pytest.mark.parametrize("name", ["auto", "int4"])
def test_each_call_attends_over_all_pages(
    device: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    clock = clock_on(device, monkeypatch)
    calls = clock.calls(RecordLayout(KV_FORMATS[name], 16, 64, 2))
    assert len(calls) == 1
    out = calls[0]()
    assert isinstance(out, torch.Tensor) and out.shape == (2, 2 * 64)


def test_layers_alike_are_timed_once(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[int] = []
    monkeypatch.setattr(decode_time, "graph_us", lambda calls: timed.append(1) or 5.0)
    clock = clock_on(device, monkeypatch)
    int4, auto = (RecordLayout(KV_FORMATS[name], 16, 64, 2) for name in ("int4", "auto"))
    assert clock.layers_us([int4, auto, int4]) == 15.0
    assert len(timed) == 2


def test_compiling_ahead_is_told_of_and_leaves_the_times_to_be_taken(
    device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_time, "graph_us", lambda calls: 5.0)
    clock = clock_on(device, monkeypatch)
    layouts = [RecordLayout(KV_FORMATS[name], 16, 64, 2) for name in ("int4", "auto")]
    told: list[tuple[str, int, int]] = []
    clock.compile_ahead(layouts, lambda phase, done, total, _: told.append((phase, done, total)))
    assert all(phase == "compile" and done <= total for phase, done, total in told)
    assert clock.layers_us(layouts) == 10.0


@pytest.mark.gpu
def test_a_graph_of_calls_is_timed(device: Any) -> None:
    x = torch.zeros(1 << 20, device=device)
    assert graph_us([lambda: x.add_(1)] * 3) > 0
