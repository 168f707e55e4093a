"""Forward passes of decode steps as CUDA graphs: the host launches one thing, not hundreds.

On an H200 a decoding layer of Qwen2.5-7B's shape takes the device 147 us and the host 272 us to
launch, for one sequence: a step without a graph waits for the host (11.7 ms, with one 4.9).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import Tensor

from engine.attention import LayerPool
from engine.batch import Batch
from engine.models.progress import Progress

Forward = Callable[[Batch, list[LayerPool]], Tensor]

FEW: Final = (1, 2, 4)
STEP: Final = 8


def graph_sizes(max_num_seqs: int) -> list[int]:
    """The numbers of sequences that have a graph, ascending; the last is `max_num_seqs`."""
    sizes = {*FEW, *range(STEP, max_num_seqs, STEP), max_num_seqs}
    return sorted(size for size in sizes if size <= max_num_seqs)


class Captured(NamedTuple):
    """A graph with the batch that it reads and the logits (B, V) that it writes."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    logits: Tensor


class DecodeGraphs:
    """One graph for each of `graph_sizes`; they share their memory, so one result lives at a time.

    A step with fewer sequences than its graph has padded rows: without a context, their K and V go
    to `spare_slot`, which belongs to no page that is ever handed out.
    """

    def __init__(
        self,
        device: torch.device,
        max_num_seqs: int,
        max_model_len: int,
        block_size: int,
        spare_slot: int,
    ) -> None:
        width = -(-max_model_len // block_size)
        self._device = device
        self._max_model_len = max_model_len
        self._spare_slot = spare_slot
        self._sizes = graph_sizes(max_num_seqs)
        self._inputs = _inputs(device, max_num_seqs, width, spare_slot)
        self._captured: dict[int, Captured] = {}
        self._memory = torch.cuda.graph_pool_handle()

    def capture(self, forward: Forward, pools: list[LayerPool], progress: Progress) -> int:
        """Captures all sizes, the largest first; the bytes of the device that they take."""
        free_before, _ = torch.cuda.mem_get_info(self._device)
        for done, size in enumerate(reversed(self._sizes)):
            progress("graphs", done, len(self._sizes), "graphs")
            self._captured[size] = self._capture(size, forward, pools)
        progress("graphs", len(self._sizes), len(self._sizes), "graphs")
        free, _ = torch.cuda.mem_get_info(self._device)
        return max(0, int(free_before - free))

    def run(self, batch: Batch) -> Tensor:
        """Logits (S, V) of a batch in which every sequence has one token and wants its logits.

        Valid until the next `run`.
        """
        count = batch.num_sequences
        captured = self._captured[next(size for size in self._sizes if size >= count)]
        self._fill(captured.batch, batch)
        captured.graph.replay()
        return captured.logits[:count]

    def _fill(self, into: Batch, batch: Batch) -> None:
        count, width = batch.num_sequences, batch.block_tables.shape[1]
        into.token_ids[:count].copy_(batch.token_ids)
        into.positions[:count].copy_(batch.positions)
        into.slots[:count].copy_(batch.slots)
        into.context_lens_device[:count].copy_(batch.context_lens_device)
        into.block_tables[:count, :width].copy_(batch.block_tables)
        if count < into.num_sequences:
            into.slots[count:].fill_(self._spare_slot)
            into.context_lens_device[count:].zero_()

    def _capture(self, size: int, forward: Forward, pools: list[LayerPool]) -> Captured:
        batch = _head_of(self._inputs, size, self._max_model_len)
        # Outside a graph first: Triton compiles and cuBLAS takes its workspace at a first call.
        side = torch.cuda.Stream(self._device)
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(side):
            forward(batch, pools)
        torch.cuda.current_stream(self._device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory):
            logits = forward(batch, pools)
        return Captured(graph, batch, logits)


def _inputs(device: torch.device, size: int, width: int, spare_slot: int) -> Batch:
    """A batch of padded rows that all graphs read from, each its first rows."""
    return Batch(
        token_ids=torch.zeros(size, dtype=torch.int64, device=device),
        positions=torch.zeros(size, dtype=torch.int64, device=device),
        slots=torch.full((size,), spare_slot, dtype=torch.int64, device=device),
        block_tables=torch.zeros(size, width, dtype=torch.int32, device=device),
        query_starts=torch.arange(size + 1, dtype=torch.int32, device=device),
        context_lens_device=torch.zeros(size, dtype=torch.int32, device=device),
        logit_rows=torch.arange(size, dtype=torch.int64, device=device),
        query_lens=(1,) * size,
        context_lens=(1,) * size,
    )


def _head_of(batch: Batch, size: int, max_model_len: int) -> Batch:
    """Its first rows, as views. The lengths on the host decide the grids: the longest there are."""
    return Batch(
        token_ids=batch.token_ids[:size],
        positions=batch.positions[:size],
        slots=batch.slots[:size],
        block_tables=batch.block_tables[:size],
        query_starts=batch.query_starts[: size + 1],
        context_lens_device=batch.context_lens_device[:size],
        logit_rows=batch.logit_rows[:size],
        query_lens=(1,) * size,
        context_lens=(max_model_len,) * size,
    )
