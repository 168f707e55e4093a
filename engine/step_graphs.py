"""Forward passes of small steps as CUDA graphs: the host launches one thing, not hundreds.

On an H200 a decoding layer of Qwen2.5-7B's shape takes the device 147 us and the host 272 us to
launch, for one sequence: a step without a graph waits for the host (11.7 ms, with one 4.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

import torch
from torch import Tensor

from engine.attention import LayerPool
from engine.batch import Batch, Bounds, Packing
from engine.models.progress import Progress

Forward = Callable[[Batch, list[LayerPool]], Tensor]

FEW: Final = (1, 2, 4)
STEP: Final = 8
# Steps with prompts: the numbers of tokens that have graphs, and of sequences that those have room
# for. With 512 tokens the device is at work for longer than the host needs to launch the kernels.
MIXED_TOKENS: Final = (16, 32, 64, 128, 192, 256, 384, 512)
MIXED_SEQUENCES: Final = (4, 64)
MAX_PROMPTS: Final = 16
# Of the driver's own memory for a graph of some 250 kernels, by the plan: 59 graphs of a 7B model
# took 320 MiB on an H200, some 240 of them their passes and logits.
GRAPH_BYTES: Final = 2 * 2**20


class GraphSize(NamedTuple):
    """The tokens and sequences that a graph has room for; only decoding ones have as many."""

    num_tokens: int
    num_sequences: int
    decodes: bool

    def holds(self, batch: Batch) -> bool:
        return (
            batch.num_tokens <= self.num_tokens
            and batch.num_sequences <= self.num_sequences
            and len(batch.logit_rows) <= self.num_sequences
        )


def decode_sizes(max_num_seqs: int) -> list[GraphSize]:
    """Of steps in which every sequence has one token, ascending; the last for `max_num_seqs`."""
    counts = {*FEW, *range(STEP, max_num_seqs, STEP), max_num_seqs}
    return [GraphSize(n, n, True) for n in sorted(counts) if n <= max_num_seqs]


def mixed_sizes(max_num_seqs: int) -> list[GraphSize]:
    """Of steps with prompts, ascending."""
    rooms = {min(room, max_num_seqs) for room in (*MIXED_SEQUENCES, max_num_seqs)}
    sizes = {(tokens, min(tokens, room)) for tokens in MIXED_TOKENS for room in rooms}
    return [GraphSize(*size, False) for size in sorted(sizes)]


def planned_bytes(
    max_num_seqs: int, logits_bytes: int, pass_bytes: Callable[[int, int], int]
) -> int:
    """What the graphs will take of the device: the largest pass, `pass_bytes` of its tokens and
    sequences, their common `logits_bytes`, and GRAPH_BYTES of the driver's for each."""
    num_graphs = len(decode_sizes(max_num_seqs)) + len(mixed_sizes(max_num_seqs))
    largest = pass_bytes(max(max_num_seqs, *MIXED_TOKENS), max_num_seqs)
    return largest + logits_bytes + num_graphs * GRAPH_BYTES


class Captured(NamedTuple):
    """A graph with the batch that it reads and the logits (B, V) that it writes."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    logits: Tensor


class StepGraphs:
    """A graph for each of its sizes; they share memory and logits, so one result lives at a time.

    A step smaller than its graph has padded rows: without a context, their K and V go to
    `spare_slot`, which belongs to no page that is ever handed out. With `num_packed` packed pages
    it also has padded seals, of page -1.
    """

    def __init__(
        self,
        device: torch.device,
        max_num_seqs: int,
        max_model_len: int,
        block_size: int,
        spare_slot: int,
        num_packed: int = 0,
    ) -> None:
        self._device = device
        self._max_model_len = max_model_len
        self._spare_slot = spare_slot
        self._decode_sizes = decode_sizes(max_num_seqs)
        self._mixed_sizes = mixed_sizes(max_num_seqs)
        width = -(-max_model_len // block_size)
        most = max(max_num_seqs, *MIXED_TOKENS)
        packing = None
        if num_packed:
            # Each sequence fills at most one page besides those that its new tokens alone fill.
            num_seals = max_num_seqs + most // block_size
            seals = torch.full((num_seals, 2), -1, dtype=torch.int64, device=device)
            packing = Packing(block_size, num_packed, seals)
        self._inputs = _inputs(device, most, max_num_seqs, width, spare_slot, packing)
        self._captured: dict[GraphSize, Captured] = {}
        self._logits = torch.empty(0, 0, device=device)
        self._memory = torch.cuda.graph_pool_handle()
        # One for all passes before and in captures: cuBLAS keeps 32 MiB for each stream it meets.
        self._stream = torch.cuda.Stream(device)

    def batches(self) -> Iterator[Batch]:
        """What a graph of each size reads, the largest first; all share their tensors."""
        for size in self._sizes():
            yield _head_of(self._inputs, size, self._max_model_len)

    def _sizes(self) -> list[GraphSize]:
        return sorted(self._decode_sizes + self._mixed_sizes, reverse=True)

    def capture(self, forward: Forward, pools: list[LayerPool], progress: Progress) -> int:
        """Captures all sizes, the largest first; the bytes of the device that they take."""
        free_before, _ = torch.cuda.mem_get_info(self._device)
        sizes = self._sizes()
        for done, size in enumerate(sizes):
            progress("graphs", done, len(sizes), "graphs")
            self._captured[size] = self._capture(size, forward, pools)
        progress("graphs", len(sizes), len(sizes), "graphs")
        free, _ = torch.cuda.mem_get_info(self._device)
        return max(0, int(free_before - free))

    def run(self, batch: Batch) -> Tensor | None:
        """Logits (R, V) of a batch, valid until the next `run`; None if no graph holds it."""
        num_prompts = sum(new > 1 for new in batch.query_lens)
        if num_prompts > MAX_PROMPTS:
            return None
        sizes = self._mixed_sizes if num_prompts else self._decode_sizes
        size = next((size for size in sizes if size.holds(batch)), None)
        if size is None:
            return None
        captured = self._captured[size]
        _fill(captured.batch, batch, self._spare_slot)
        captured.graph.replay()
        return captured.logits[: len(batch.logit_rows)]

    def _capture(self, size: GraphSize, forward: Forward, pools: list[LayerPool]) -> Captured:
        batch = _head_of(self._inputs, size, self._max_model_len)
        # Outside a graph first: Triton compiles and cuBLAS takes its workspace at a first call.
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            logits = forward(batch, pools)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        if not len(self._logits):
            # Copied to one place at the end of each graph, at most 40 us of 8 ms: graphs that kept
            # their own for up to 256 rows of 152k took 2.9 GB.
            rows = max(size.num_sequences for size in self._decode_sizes)
            self._logits = logits.new_empty(rows, logits.shape[1])
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory, stream=self._stream):
            own = forward(batch, pools)
            logits = self._logits[: len(own)].copy_(own)
        return Captured(graph, batch, logits)


def _fill(into: Batch, batch: Batch, spare_slot: int) -> None:
    num_tokens, count, num_logits = batch.num_tokens, batch.num_sequences, len(batch.logit_rows)
    into.token_ids[:num_tokens].copy_(batch.token_ids)
    into.positions[:num_tokens].copy_(batch.positions)
    into.slots[:num_tokens].copy_(batch.slots)
    into.slots[num_tokens:].fill_(spare_slot)
    into.context_lens_device[:count].copy_(batch.context_lens_device)
    into.context_lens_device[count:].zero_()
    into.block_tables[:count, : batch.block_tables.shape[1]].copy_(batch.block_tables)
    into.query_starts[: count + 1].copy_(batch.query_starts)
    into.query_starts[count + 1 :].fill_(num_tokens)
    into.logit_rows[:num_logits].copy_(batch.logit_rows)
    into.logit_rows[num_logits:].zero_()
    if batch.packing is not None and into.packing is not None:
        _fill_seals(into.packing, batch.packing)


def _fill_seals(into: Packing, packing: Packing) -> None:
    assert into.seals is not None
    num_seals = 0 if packing.seals is None else len(packing.seals)
    if packing.seals is not None:
        into.seals[:num_seals].copy_(packing.seals)
    into.seals[num_seals:].fill_(-1)


def _inputs(
    device: torch.device,
    num_tokens: int,
    num_sequences: int,
    width: int,
    spare_slot: int,
    packing: Packing | None,
) -> Batch:
    """A batch of padded rows that all graphs read from, each its first rows."""
    ints = {"dtype": torch.int32, "device": device}
    longs = {"dtype": torch.int64, "device": device}
    return Batch(
        token_ids=torch.zeros(num_tokens, **longs),
        positions=torch.zeros(num_tokens, **longs),
        slots=torch.full((num_tokens,), spare_slot, **longs),
        block_tables=torch.zeros(num_sequences, width, **ints),
        query_starts=torch.zeros(num_sequences + 1, **ints),
        context_lens_device=torch.zeros(num_sequences, **ints),
        logit_rows=torch.zeros(num_sequences, **longs),
        query_lens=(),
        context_lens=(),
        packing=packing,
    )


def _head_of(batch: Batch, size: GraphSize, max_model_len: int) -> Batch:
    """Its first rows, as views."""
    num_tokens, count = size.num_tokens, size.num_sequences
    return Batch(
        token_ids=batch.token_ids[:num_tokens],
        positions=batch.positions[:num_tokens],
        slots=batch.slots[:num_tokens],
        block_tables=batch.block_tables[:count],
        query_starts=batch.query_starts[: count + 1],
        context_lens_device=batch.context_lens_device[:count],
        logit_rows=batch.logit_rows[:count],
        query_lens=(),
        context_lens=(),
        bounds=Bounds(count, 0 if size.decodes else MAX_PROMPTS, max_model_len),
        packing=_head_of_seals(batch.packing, num_tokens, count),
    )


def _head_of_seals(packing: Packing | None, num_tokens: int, count: int) -> Packing | None:
    if packing is None or packing.seals is None:
        return packing
    num_seals = min(num_tokens, count + num_tokens // packing.block_size)
    return replace(packing, seals=packing.seals[:num_seals])
