"""What each kernel reaches of what the GPU can do, at the shapes the engine runs.

    python benchmarks/kernels.py --json kernels.json
    python benchmarks/kernels.py --only decode prefill --cuts

The ceilings are measured in the same run: a large read or copy by kernels and a large bf16
product of random numbers. Times are medians over replays of a CUDA graph that goes through several
sets of inputs, larger together than the L2 cache. "torch" is its flash attention over dense K and
V. Section "layer" shows what the launches of one layer cost the host. Without a GPU: exit code 2.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from kernel_bench import DTYPE, SHAPES, Bench, Call, Row, Shape, num_bytes, num_sets
from kernel_cuts import decode_cuts, prefill_cuts
from torch.nn.attention import SDPBackend, sdpa_kernel

from engine.attention import Hidden
from engine.batch import Batch
from engine.draws import DRAW, as_words
from engine.kernels.norm import add_rms_norm
from engine.kernels.sampling import sample_rows
from engine.kernels.silu_mul import silu_mul

EPS = 1e-6
DRAWS = {  # inverse temperature, top-k, top-p
    "greedy": (0.0, 0, 1.0),
    "temperature": (1.0, 0, 1.0),
    "top-p 0.9": (1.0, 0, 0.9),
    "top-k 50, top-p 0.9": (1.0, 50, 0.9),
}
LAYERS_ISSUED = 40  # times 10 launches: fewer than the 1,024 that the driver queues


def attention_calls(bench: Bench, shape: Shape, batch: Batch, num_pages: int) -> list[Call]:
    """What the engine calls, once for each set of pages."""
    plan = bench.backend.plan(batch, shape.num_heads, shape.num_kv_heads, shape.head_dim)
    q = bench.random(sum(batch.query_lens), shape.num_heads, shape.head_dim)
    return [
        partial(bench.backend.attend, q, pool, plan, shape.head_dim**-0.5, None)
        for pool in bench.pools(shape, num_pages)
    ]


def dense_attention_us(
    bench: Bench, shape: Shape, count: int, new: int, context: int
) -> float | None:
    """torch's flash attention of `count` sequences; None where it has no kernel for the case."""
    sizes = (count, shape.num_kv_heads, context, shape.head_dim)
    queries = (count, shape.num_heads, new, shape.head_dim)
    calls = [
        partial(
            F.scaled_dot_product_attention,
            bench.random(*queries),
            bench.random(*sizes),
            bench.random(*sizes),
            is_causal=new > 1,
            enable_gqa=True,
        )
        for _ in range(num_sets(2 * num_bytes(*sizes)))
    ]
    try:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return bench.time_us(calls)
    except RuntimeError:
        return None


def decode(bench: Bench, shape: Shape) -> Iterator[Row]:
    sizes = itertools.product((1, 8, 32, 128), (256, 1024, 4096, 8192))
    for size, context in (*sizes, (1, 160), (1, 16000), (8, 16000), (16, 32768)):
        batch, num_pages = bench.batch([1] * size, [context] * size)
        calls = attention_calls(bench, shape, batch, num_pages)
        dense_us = dense_attention_us(bench, shape, size, 1, context)
        case = f"{shape.name} batch {size} context {context}"
        yield bench.moved("decode", case, calls, shape.kv_bytes(batch), dense_us)


def prefill(bench: Bench, shape: Shape) -> Iterator[Row]:
    whole = [(1, 128, 0), (1, 512, 0), (1, 2048, 0), (4, 2048, 0), (1, 8192, 0)]
    for count, new, prefix in [*whole, (1, 16, 4096), (1, 512, 2048), (1, 2048, 6144)]:
        batch, num_pages = bench.batch([new] * count, [prefix + new] * count)
        calls = attention_calls(bench, shape, batch, num_pages)
        dense_us = None if prefix else dense_attention_us(bench, shape, count, new, new)
        case = f"{shape.name} {count} x {new} tokens after {prefix}"
        flops = count * shape.attention_flops(new, prefix)
        yield bench.computed("prefill", case, calls, flops, dense_us)


def elementwise(bench: Bench, shape: Shape) -> Iterator[Row]:
    """The kernels that only move bytes: norms, gate, rotation with page write."""
    for tokens in (1, 32, 128, 2048):
        yield from norms(bench, shape, tokens)
        row = num_bytes(tokens, shape.inner)
        gates = [bench.random(tokens, 2 * shape.inner) for _ in range(num_sets(3 * row))]
        calls = [partial(silu_mul, gate) for gate in gates]
        yield bench.moved("silu_mul", f"{shape.name} {tokens} tokens", calls, 3 * row)
        yield rope_write(bench, shape, tokens)


def norms(bench: Bench, shape: Shape, tokens: int) -> Iterator[Row]:
    backend, weight, case = (
        bench.backend,
        bench.random(shape.hidden),
        f"{shape.name} {tokens} tokens",
    )
    row = num_bytes(tokens, shape.hidden)
    xs = [bench.random(tokens, shape.hidden) for _ in range(num_sets(2 * row))]
    calls = [partial(backend.rms_norm, x, weight, EPS) for x in xs]
    yield bench.moved("rms_norm", case, calls, 2 * row)
    pairs = [(x, torch.zeros_like(x)) for x in xs]
    added = [partial(add_rms_norm, *pair, weight, EPS) for pair in pairs]
    yield bench.moved("add_rms_norm", case, added, 4 * row)


def rope_write(bench: Bench, shape: Shape, tokens: int) -> Row:
    batch, num_pages = bench.batch([tokens], [tokens])
    plan = bench.backend.plan(batch, shape.num_heads, shape.num_kv_heads, shape.head_dim)
    angles = torch.rand(tokens, shape.head_dim // 2, device=bench.device)
    sizes = (tokens, sum(shape.heads), shape.head_dim)
    calls = []
    for pool in bench.pools(shape, num_pages)[: num_sets(2 * num_bytes(*sizes))]:
        q, k, v = bench.random(*sizes).split(shape.heads, 1)
        calls.append(partial(bench.backend.rope_and_write, q, k, v, angles, angles, pool, plan))
    # All three are read and written; the angles of a token are few bytes beside its heads.
    return bench.moved("rope_write", f"{shape.name} {tokens} tokens", calls, 2 * num_bytes(*sizes))


class Layer:
    """One layer with random weights, run as the decoder runs it: nine launches, ten with splits."""

    def __init__(self, bench: Bench, shape: Shape) -> None:
        self._bench = bench
        self._shape = shape
        self._widths = [heads * shape.head_dim for heads in shape.heads]
        hidden, inner = shape.hidden, shape.inner
        backend, norm = bench.backend, torch.ones(hidden, dtype=DTYPE, device=bench.device)
        qkv, gate_up = self._weight(sum(self._widths), hidden), self._weight(2 * inner, hidden)
        self._qkv = backend.norm_linear(norm, qkv, None, EPS)
        self._output = backend.residual_linear(self._weight(hidden, self._widths[0]), None)
        self._gate_up = backend.norm_gated_linear(norm, gate_up, None, EPS)
        self._down = backend.residual_linear(self._weight(hidden, inner), None)

    def _weight(self, rows: int, columns: int) -> torch.Tensor:
        return self._bench.random(rows, columns) * columns**-0.5

    def call(self, batch: Batch, num_pages: int) -> Call:
        """One pass over `batch`."""
        bench, shape = self._bench, self._shape
        plan = bench.backend.plan(batch, shape.num_heads, shape.num_kv_heads, shape.head_dim)
        angles = torch.rand(max(batch.context_lens), shape.head_dim // 2, device=bench.device)
        pool = bench.pools(shape, num_pages)[0]
        entering = Hidden(bench.random(sum(batch.query_lens), shape.hidden))

        def run() -> None:
            backend = bench.backend
            qkv, hidden = self._qkv(entering)
            q, k, v = (
                part.unflatten(-1, (-1, shape.head_dim)) for part in qkv.split(self._widths, -1)
            )
            q = backend.rope_and_write(q, k, v, angles, angles, pool, plan)
            attended = backend.attend(q, pool, plan, shape.head_dim**-0.5, None)
            gated, hidden = self._gate_up(self._output(attended, hidden))
            self._down(gated, hidden)

        return run


def layer(bench: Bench, shape: Shape) -> Iterator[Row]:
    """The host's time per layer is what a step without graphs cannot go below."""
    mixes = {f"{size} decoding": [1] * size for size in (1, 32, 128)}
    mixes["32 decoding, 512 prefilling"] = [1] * 32 + [512]
    one = Layer(bench, shape)
    for name, query_lens in mixes.items():
        batch, num_pages = bench.batch(query_lens, [1024] * len(query_lens))
        call = one.call(batch, num_pages)
        case = f"{shape.name} {name}, host {host_us(call):.0f} us"
        yield bench.moved("layer", case, [call], shape.weight_bytes + shape.kv_bytes(batch))


def host_us(call: Call) -> float:
    """Microseconds until the host has issued one call, the GPU not waited for."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(LAYERS_ISSUED):
        call()
    issued = time.perf_counter() - begin
    torch.cuda.synchronize()
    return issued * 1e6 / LAYERS_ISSUED


def products(bench: Bench, shape: Shape) -> Iterator[Row]:
    """A layer's products and the head's, each with the norm before it and the gate or the sum after
    it, beside the same by torch's functions. What moves is the weight, to a percent."""
    width, hidden = shape.num_heads * shape.head_dim, shape.hidden
    scale = torch.ones(hidden, dtype=DTYPE, device=bench.device)
    heads = sum(shape.heads) * shape.head_dim
    for rows in (1, 4, 16, 32, 64, 128):
        for name, outputs, inputs in (
            ("norm, qkv", heads, hidden),
            ("output, sum", hidden, width),
            ("norm, gate and up", 2 * shape.inner, hidden),
            ("down, sum", hidden, shape.inner),
            ("norm, head", shape.vocab, hidden),
        ):
            size = num_bytes(outputs, inputs)
            weights = [bench.random(outputs, inputs) * inputs**-0.5 for _ in range(num_sets(size))]
            x, residual = bench.random(rows, inputs), bench.random(rows, hidden)
            ours, torchs = [], []
            for weight in weights:
                if "sum" in name:
                    product = bench.backend.residual_linear(weight, None)
                    ours.append(partial(product, x, Hidden(residual)))
                    torchs.append(partial(residual.addmm_, x, weight.t()))
                    continue
                gated = "gate" in name
                make = bench.backend.norm_gated_linear if gated else bench.backend.norm_linear
                ours.append(partial(make(scale, weight, None, EPS), Hidden(x)))
                torchs.append(partial(_normed_product, x, scale, weight, gated))
            case, torch_us = f"{shape.name} {rows} rows: {name}", bench.time_us(torchs)
            yield bench.moved("products", case, ours, size, torch_us)


def _normed_product(x: torch.Tensor, scale: torch.Tensor, weight: torch.Tensor, gated: bool) -> Any:
    product = F.linear(F.rms_norm(x, scale.shape, scale, EPS), weight)
    if not gated:
        return product
    gate, up = product.chunk(2, -1)
    return F.silu(gate) * up


def sampling(bench: Bench, shape: Shape) -> Iterator[Row]:
    """Logits like a language model's fall with the rank; even ones have nuclei of most tokens."""
    for rows in (1, 64, 256):
        size = num_bytes(rows, shape.vocab)
        peaked, even = _falling(bench, rows, shape.vocab), bench.random(rows, shape.vocab)
        for name, (scale, top_k, top_p) in DRAWS.items():
            draws = np.zeros(rows, DRAW)
            for row in range(rows):
                draws[row] = row, 0, scale, top_k or shape.vocab, top_p, -np.inf
            table = torch.from_numpy(as_words(draws)).to(bench.device)
            for kind, logits in (("peaked", peaked), ("even", even)):
                calls = [partial(sample_rows, x, table) for x in (logits, logits.clone())]
                case = f"{shape.name} {rows} rows, {kind}, {name}"
                yield bench.moved("sampling", case, calls, size)


def _falling(bench: Bench, rows: int, vocab: int) -> torch.Tensor:
    """The weight of the n-th likeliest token is n**-1.5, in an order of its own in each row."""
    logits = torch.arange(1, vocab + 1, device=bench.device).log() * -1.5
    orders = [torch.randperm(vocab, device=bench.device) for _ in range(rows)]
    return torch.stack([logits[order] for order in orders]).to(DTYPE)


SECTIONS: dict[str, Callable[[Bench, Shape], Iterator[Row]]] = {
    "decode": decode,
    "prefill": prefill,
    "elementwise": elementwise,
    "products": products,
    "layer": layer,
    "sampling": sampling,
}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    names = [shape.name for shape in SHAPES]
    parser.add_argument("--json", type=Path, default=Path("kernels.json"), help="results go here")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--shapes", nargs="+", choices=names, default=names)
    parser.add_argument("--cuts", action="store_true", help="also time other cuts of attention")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    if not torch.cuda.is_available():
        print("kernels.py measures kernels on a GPU; there is no CUDA device here", file=sys.stderr)
        return 2
    torch.manual_seed(0)
    bench, rows = Bench(), []
    name = torch.cuda.get_device_name()
    print(
        f"{name}: memory {bench.memory_gb_s:.0f} GB/s, product {bench.product_tflop_s:.0f} TFLOP/s"
    )
    sections = [SECTIONS[section] for section in chosen.only]
    sections += [decode_cuts, prefill_cuts] if chosen.cuts else []
    with torch.inference_mode():
        for section in sections:
            for shape in (shape for shape in SHAPES if shape.name in chosen.shapes):
                for row in section(bench, shape):
                    print(row, flush=True)
                    rows.append(row._asdict())
    found = {
        "device": name,
        "torch": torch.__version__,
        "memory_gb_s": bench.memory_gb_s,
        "product_tflop_s": bench.product_tflop_s,
        "rows": rows,
    }
    chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    print(f"written to {chosen.json}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
