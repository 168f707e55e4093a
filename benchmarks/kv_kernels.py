"""Attention over packed pages, format by format, beside the bf16 kernel and the memory's ceiling.

    python benchmarks/kv_kernels.py --json kv_kernels.json
    python benchmarks/kv_kernels.py --formats int4 int8 --batch 16 --context 32768
    python benchmarks/kv_kernels.py --formats int4 --cuts

Decode attention alone: one layer of 8 KV heads with 128 channels, 4 query heads each, pages of 64
tokens. The floor is the bytes of K and V that a step must read over the bandwidth that a read or a
copy by kernels reached in the same run. "seal" is what packing so many pages costs: of every 64
steps each sequence has one that fills a page; in a graph the kernel runs in all of them. Times are
medians over replays of a CUDA graph that goes through inputs larger together than the L2 cache.
Needs a CUDA device; without one: exit code 2.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from kernel_bench import DTYPE, Bench, Call, num_sets

from engine.attention import LayerPool
from engine.kernels import packed_decode, paged_decode
from engine.kernels.packed_decode import PackedTiles
from engine.kernels.packed_pool import PackedPool
from engine.kernels.packed_seal import seal
from engine.kernels.splits import PROGRAMS_PER_SM, allocate_workspace, choose_splits
from engine.kv.formats import KV_FORMATS, RecordLayout

NUM_HEADS, NUM_KV_HEADS, HEAD_DIM, PAGE = 32, 8, 128, 64
GROUP = NUM_HEADS // NUM_KV_HEADS
SCALE = HEAD_DIM**-0.5
NAMES = [name for name in KV_FORMATS if name != "auto"]
# Least tokens per split, warps, stages.
CUTS = [PackedTiles(*cut) for cut in itertools.product((256, 512), (1, 2), (2, 3, 4))]


class Step(NamedTuple):
    """One token of each of `size` sequences, after `context - 1` others."""

    size: int
    context: int

    @property
    def pages(self) -> int:
        return -(-self.context // PAGE)

    def tables(self, num_pages: int, device: torch.device) -> tuple[torch.Tensor, ...]:
        """Shuffled pages, query starts, contexts: as the kernels take them."""
        ids = torch.randperm(num_pages)[: self.size * self.pages].view(self.size, -1)
        starts = torch.arange(self.size + 1)
        lens = torch.full((self.size,), self.context)
        return tuple(x.to(device, torch.int32) for x in (ids, starts, lens))


class Row(NamedTuple):
    """A measurement; `floor_us` is its bytes at the measured bandwidth."""

    format: str
    what: str
    us: float
    num_bytes: int
    floor_us: float
    share: float
    over_bf16: float | None

    def __str__(self) -> str:
        gain = "" if self.over_bf16 is None else f"  {self.over_bf16:5.2f}x bf16"
        return (
            f"{self.format:6} {self.what:34} {self.us:9.1f} us  floor {self.floor_us:8.1f} us"
            f"  {self.share:6.1%}{gain}"
        )


class KVBench:
    """Times one step's attention, in bf16 and in every format."""

    def __init__(self, bench: Bench, step: Step) -> None:
        self._bench = bench
        self._step = step
        self._q = bench.random(step.size, NUM_HEADS, HEAD_DIM)
        self._out = bench.random(step.size, NUM_HEADS * HEAD_DIM)
        self._bf16_us: float | None = None

    def bf16(self) -> Row:
        """The engine's kernel over wide pages of the same size."""
        step, bench = self._step, self._bench
        num_pages = step.size * step.pages
        shape = (num_pages, NUM_KV_HEADS, PAGE, HEAD_DIM)
        num_bytes = 2 * DTYPE.itemsize * NUM_KV_HEADS * HEAD_DIM * step.size * step.context
        pools = [bench.backend.allocate_pool(*shape) for _ in range(num_sets(num_bytes))]
        for pool in pools:
            pool.k.normal_()
            pool.v.normal_()
        tables = step.tables(num_pages, bench.device)
        tiles = paged_decode.choose_tiles(DTYPE)
        options = self._options(tiles.min_split, PROGRAMS_PER_SM)
        calls: list[Call] = [
            partial(
                paged_decode.paged_decode, self._q, pool, *tables, self._out, tiles=tiles, **options
            )
            for pool in pools
        ]
        self._bf16_us = bench.time_us(calls)
        return self._row("bf16", "decode", self._bf16_us, num_bytes)

    def packed(self, name: str, cuts: list[PackedTiles]) -> Iterator[Row]:
        """Attention in each cut, then the seals."""
        step = self._step
        layout = RecordLayout(KV_FORMATS[name], PAGE, HEAD_DIM, DTYPE.itemsize)
        own = (step.context - 1) % PAGE + 1
        wide_tokens = min(own + PAGE, step.context)
        wide_bytes = 2 * DTYPE.itemsize * HEAD_DIM * wide_tokens
        sealed_bytes = layout.num_bytes * max(0, step.pages - 2)
        num_bytes = step.size * NUM_KV_HEADS * (wide_bytes + sealed_bytes)
        pools = self._packed_pools(layout, num_bytes)
        tables, slots = self._packed_tables()
        for cut in cuts:
            calls: list[Call] = [
                partial(
                    packed_decode.packed_decode,
                    self._q,
                    pool,
                    *tables,
                    slots,
                    self._out,
                    tiles=cut,
                    **self._options(cut.min_split, packed_decode.PROGRAMS_PER_SM),
                )
                for pool in pools
            ]
            yield self._row(name, f"decode {tuple(cut)}", self._bench.time_us(calls), num_bytes)
        for count in sorted({0, 1, step.size}):
            yield self._seal(name, layout, pools, count)

    def _seal(self, name: str, layout: RecordLayout, pools: list[PackedPool], count: int) -> Row:
        """Of `count` pages where there is room for one of each sequence, as in a graph."""
        size, device = self._step.size, self._bench.device
        places = torch.arange(size, dtype=torch.int32, device=device)
        seals = torch.stack([places, torch.where(places < count, places, -1)], 1)
        us = self._bench.time_us([partial(seal, pool, seals) for pool in pools])
        wide = 2 * DTYPE.itemsize * PAGE * HEAD_DIM
        num_bytes = count * NUM_KV_HEADS * (wide + layout.num_bytes)
        return self._row(name, f"seal of {count} pages", us, num_bytes)

    def _packed_pools(self, layout: RecordLayout, num_bytes: int) -> list[PackedPool]:
        """As many as are larger than the cache, each page sealed from random rows."""
        step, bench = self._step, self._bench
        num_packed, num_wide = step.size * step.pages, 2 * step.size
        pools = []
        for _ in range(num_sets(num_bytes)):
            shape = (num_wide, NUM_KV_HEADS, PAGE, HEAD_DIM)
            wide = bench.backend.allocate_pool(*shape)
            wide.k.normal_()
            wide.v.normal_()
            records = torch.empty(
                num_packed, NUM_KV_HEADS, layout.num_bytes, dtype=torch.uint8, device=bench.device
            )
            pool = PackedPool(records, LayerPool(*wide), layout)
            packed = torch.arange(num_packed, dtype=torch.int32, device=bench.device)
            seal(pool, torch.stack([packed % num_wide, packed], 1))
            pools.append(pool)
        return pools

    def _packed_tables(self) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Each sequence's first page wide, and the page of its token; all others packed."""
        step, device = self._step, self._bench.device
        ids, starts, lens = step.tables(step.size * step.pages, device)
        places = torch.arange(step.size, device=device)
        ids[:, 0] = step.size * step.pages + places
        slots = (step.size + places) * PAGE + (step.context - 1) % PAGE
        return (ids, starts, lens), slots

    def _options(self, min_split: int, programs_per_sm: int) -> dict[str, object]:
        rows = self._step.size * NUM_KV_HEADS
        num_sms = self._bench.num_sms
        splits = choose_splits(rows, self._step.context, num_sms, min_split, programs_per_sm)
        workspace = allocate_workspace(rows * splits, GROUP, HEAD_DIM, self._bench.device)
        return {"scale": SCALE, "num_splits": splits, "workspace": workspace}

    def _row(self, name: str, what: str, us: float, num_bytes: int) -> Row:
        floor_us = num_bytes / self._bench.memory_gb_s / 1e3
        gain = self._bf16_us / us if self._bf16_us and what.startswith("decode") else None
        return Row(name, what, us, num_bytes, floor_us, floor_us / us, gain)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, default=Path("kv_kernels.json"), help="results")
    parser.add_argument("--formats", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--batch", type=int, nargs="+", default=[16])
    parser.add_argument("--context", type=int, nargs="+", default=[32768])
    parser.add_argument("--cuts", action="store_true", help="time other cuts of the kernel too")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    if not torch.cuda.is_available():
        print("kv_kernels.py measures on a GPU; there is no CUDA device here", file=sys.stderr)
        return 2
    torch.manual_seed(0)
    bench, found = Bench(), []
    name = torch.cuda.get_device_name()
    print(f"{name}: memory {bench.memory_gb_s:.0f} GB/s")
    cuts = CUTS if chosen.cuts else [packed_decode.choose_tiles(DTYPE)]
    with torch.inference_mode():
        for size, context in itertools.product(chosen.batch, chosen.context):
            print(f"batch {size}, context {context}, {NUM_KV_HEADS} KV heads of {HEAD_DIM}")
            kv_bench = KVBench(bench, Step(size, context))
            rows = itertools.chain(
                [kv_bench.bf16()], *(kv_bench.packed(each, cuts) for each in chosen.formats)
            )
            for row in rows:
                print(row, flush=True)
                found.append({"batch": size, "context": context} | row._asdict())
    result = {
        "device": name,
        "torch": torch.__version__,
        "memory_gb_s": bench.memory_gb_s,
        "rows": found,
    }
    chosen.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {chosen.json}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
