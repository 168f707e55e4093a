"""Matrix products on a CPU: oneDNN with weights packed once where that is quicker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attention import Linear

# A matrix of the size of SmolLM2's MLP, and the batches that decoding brings.
PROBE_SHAPE = (1536, 576)
PROBE_BATCHES = (1, 8)
PROBE_CALLS = 10
# Packed unless plain is clearly quicker: a close race must not make two starts differ.
MARGIN = 1.25


class PlainLinear:
    """torch's own product. Owns a reference to the weight (out, in)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self._weight, self._bias)


class PackedLinear:
    """oneDNN's product. Owns a copy of the weight in the blocks that the processor wants.

    F.linear packs the weight anew in every call: on two cores of a Xeon with AMX the linear layers
    of a SmolLM2 step take 14.5 ms that way and 8.7 ms packed (bf16, one row).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        self._bias = bias
        self._multiply = torch.ops.mkldnn._linear_pointwise.default

    def __call__(self, x: Tensor) -> Tensor:
        product: Tensor = self._multiply(x, self._weight, self._bias, "none", [], "")
        return product


class PlainGatedLinear:
    """silu(gate) * up; owns a reference to the weight (2 I, in) of [gate | up]."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._product = PlainLinear(weight, bias)

    def __call__(self, x: Tensor) -> Tensor:
        gate, up = self._product(x).chunk(2, -1)
        return F.silu(gate).mul_(up)


class PackedGatedLinear:
    """silu(gate) * up, both while the products are still in registers. Owns packed copies."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        gate, up = weight.chunk(2)
        self._gate, self._up = (
            torch.ops.mkldnn._reorder_linear_weight(part.contiguous(), None) for part in (gate, up)
        )
        biases = (None, None) if bias is None else bias.chunk(2)
        self._gate_bias: Tensor | None = biases[0]
        self._up_bias: Tensor | None = biases[1]
        self._silu = torch.ops.mkldnn._linear_pointwise.default
        self._times = torch.ops.mkldnn._linear_pointwise.binary

    def __call__(self, x: Tensor) -> Tensor:
        gate = self._silu(x, self._gate, self._gate_bias, "swish", [], "")
        product: Tensor = self._times(x, gate, self._up, self._up_bias, "mul")
        return product


def make_gated_linear(weight: Tensor, bias: Tensor | None) -> Linear:
    """As `make_linear` chooses."""
    return (PackedGatedLinear if packed_is_quicker(weight.dtype) else PlainGatedLinear)(
        weight, bias
    )


def make_linear(weight: Tensor, bias: Tensor | None) -> Linear:
    """The quicker of the two on this machine for the weight's dtype."""
    return (PackedLinear if packed_is_quicker(weight.dtype) else PlainLinear)(weight, bias)


@cache
def packed_is_quicker(dtype: torch.dtype) -> bool:
    """Whether packing is possible, right and quicker here; asked once a dtype (about 20 ms)."""
    with _one_thread():
        weight, inputs = _probe_data(dtype)
        plain = PlainLinear(weight, None)
        try:
            packed = PackedLinear(weight, None)
            right = all(torch.allclose(packed(x), plain(x), atol=0.5, rtol=0.05) for x in inputs)
        except (AttributeError, RuntimeError):
            return False
        if not right:
            return False
        return _seconds(packed, inputs) < MARGIN * _seconds(plain, inputs)


@cache
def fastest_dtype() -> torch.dtype:
    """bf16 where this processor multiplies it at least as quickly as fp32."""
    times = {}
    with _one_thread():
        for dtype in (torch.float32, torch.bfloat16):
            weight, inputs = _probe_data(dtype)
            times[dtype] = _seconds(make_linear(weight, None), inputs)
    quick = times[torch.bfloat16] <= times[torch.float32]
    return torch.bfloat16 if quick else torch.float32


def _probe_data(dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(PROBE_SHAPE, generator=generator).to(dtype)
    rows = [torch.randn(n, PROBE_SHAPE[1], generator=generator).to(dtype) for n in PROBE_BATCHES]
    return weight, rows


@contextmanager
def _one_thread() -> Iterator[None]:
    """Measures what the processor can: several threads wait for each other on a busy machine."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _seconds(linear: Linear, inputs: list[Tensor]) -> float:
    """Each input's quickest call, added up: what else runs on the machine only adds."""
    return sum(min(_one_call(linear, x) for _ in range(PROBE_CALLS)) for x in inputs)


def _one_call(linear: Linear, x: Tensor) -> float:
    start = time.perf_counter()
    linear(x)
    return time.perf_counter() - start
