"""The first passes through a new model: compile, pack, and see what memory a step takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
import torch
from torch import Tensor

from engine.attention import Backend, LayerPool
from engine.batch import Batch, Packing
from engine.draws import DRAW
from engine.kv.allocate import allocate_pools
from engine.kv.packed_plan import PackedPlan
from engine.models.config import ModelConfig
from engine.models.progress import Progress
from engine.sampling import SamplingStep

Forward = Callable[[Batch, list[LayerPool]], Tensor]

CPU_PREFILL_TOKENS: Final = 64
# Copies of the logits, in fp32, that edits and log-probabilities make at their worst, and what
# penalties keep of each token, which is as large as one.
SAMPLING_COPIES: Final = 4


class WarmUp:
    """Runs a decoder over made-up tokens that all lie in one page."""

    def __init__(
        self,
        forward: Forward,
        backend: Backend,
        shape: ModelConfig,
        block_size: int,
        packed: PackedPlan | None = None,
    ) -> None:
        self._forward = forward
        self._backend = backend
        self._device = backend.device
        self._vocab_size = shape.vocab_size
        self._block_size = block_size
        self._packed = packed
        self._packing = None if packed is None else Packing(block_size, 1, None)
        self._pools = allocate_pools(backend, shape, block_size, packed, 1, 1)

    def run(self, max_tokens: int, max_seqs: int, max_len: int, progress: Progress) -> int:
        """Bytes that the largest step takes beside weights and pages; 0 on the CPU."""
        if self._device.type != "cuda":
            max_tokens, max_seqs = min(max_tokens, CPU_PREFILL_TOKENS), min(max_seqs, 2)
        passes = _passes(max_tokens, max_seqs, max_len)
        peak_bytes = 0
        for done, query_lens in enumerate(passes):
            progress("warmup", done, len(passes), "steps")
            sampling_bytes = SAMPLING_COPIES * 4 * len(query_lens) * self._vocab_size
            peak_bytes = max(peak_bytes, self._pass(query_lens) + sampling_bytes)
        self._sample()
        progress("warmup", len(passes), len(passes), "steps")
        if self._device.type != "cuda":
            return 0
        # The passes above have no context before their chunks, whose pages would be turned back.
        turned_back = 0 if self._packed is None else self._packed.turned_back_bytes(max_len)
        return peak_bytes + turned_back

    def compile_ahead(
        self,
        max_tokens: int,
        max_seqs: int,
        max_len: int,
        graph_batches: Iterable[Batch],
        progress: Progress,
    ) -> None:
        """Has all kernels compiled side by side, of `run` and of these batches, and runs none."""
        with self._backend.compiling_ahead(progress):
            for query_lens in _passes(max_tokens, max_seqs, max_len):
                self._pass(query_lens)
            self._sample()
            for batch in graph_batches:
                self._forward(batch, self._pools)

    def graph_bytes(self, num_tokens: int, num_seqs: int) -> int:
        """Bytes that the memory of graphs takes, the largest of them being of this size."""
        query_lens = [1] * (num_seqs - 1) + [max(1, num_tokens - num_seqs + 1)]
        return self._pass(query_lens)

    def _sample(self) -> None:
        """Draws a token of even logits once in each dtype, lest the first request waits for it."""
        draws = np.array([(0, 0, 1.0, 1, 1.0, -np.inf)], DRAW)
        for dtype in {self._backend.dtype, torch.float32}:
            logits = torch.zeros(1, self._vocab_size, dtype=dtype, device=self._device)
            self._backend.sample(logits, SamplingStep(None, draws))

    def _pass(self, query_lens: list[int]) -> int:
        """Bytes at the peak of one forward pass; 0 on the CPU."""
        on_cuda = self._device.type == "cuda"
        if on_cuda:
            torch.cuda.reset_peak_memory_stats(self._device)
            before = torch.cuda.memory_allocated(self._device)
        with torch.inference_mode():
            self._forward(self._batch(query_lens), self._pools)
        if not on_cuda:
            return 0
        torch.cuda.synchronize(self._device)
        peak_bytes = torch.cuda.max_memory_allocated(self._device) - before
        torch.cuda.empty_cache()
        return int(peak_bytes)

    def _batch(self, query_lens: list[int]) -> Batch:
        """Sequences without a context; every page of theirs is page 0."""
        positions = torch.cat([torch.arange(n) for n in query_lens])
        starts = torch.tensor([0, *query_lens]).cumsum(0)
        width = -(-max(query_lens) // self._block_size)
        on = self._device
        return Batch(
            token_ids=torch.zeros(len(positions), dtype=torch.int64, device=on),
            positions=positions.to(on),
            slots=(positions % self._block_size).to(on),
            block_tables=torch.zeros(len(query_lens), width, dtype=torch.int32, device=on),
            query_starts=starts.int().to(on),
            context_lens_device=torch.tensor(query_lens, dtype=torch.int32).to(on),
            logit_rows=(starts[1:] - 1).to(on),
            query_lens=tuple(query_lens),
            context_lens=tuple(query_lens),
            packing=self._packing,
        )


def _passes(max_tokens: int, max_seqs: int, max_len: int) -> list[list[int]]:
    """The new tokens of each sequence: of the largest prompts, of the most sequences, of one."""
    return [_split(max_tokens, max_len), [1] * max_seqs, [1]]


def _split(num_tokens: int, max_len: int) -> list[int]:
    """Chunks of at most `max_len` that sum to `num_tokens`."""
    whole, rest = divmod(num_tokens, max_len)
    return [max_len] * whole + [rest] * (rest > 0)
