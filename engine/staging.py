"""From a plan to the tensors of one forward pass."""

from __future__ import annotations

from itertools import accumulate, cycle, islice
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from engine.batch import Batch, Packing
from engine.last_tokens import LastTokens
from engine.plan import Plan, PlanRow
from engine.sequence import Sequence

ALIGNMENT: Final = 16
TORCH_DTYPES: Final[dict[type[np.generic], torch.dtype]] = {
    np.int32: torch.int32,
    np.int64: torch.int64,
}
NEVER: Final = -1


class UploadBuffer:
    """One run of host bytes that the arrays of a step lie in, and goes to the device in one copy.

    Pinned, with a twin on the device, for CUDA; on the CPU the arrays are the tensors. Valid until
    the next `begin`, so the step that was staged in it must be done by then.
    """

    def __init__(self, num_bytes: int, device: torch.device) -> None:
        on_cpu = device.type == "cpu"
        self._host = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=not on_cpu)
        self._bytes = self._host.numpy()
        self._device = self._host if on_cpu else torch.empty_like(self._host, device=device)
        self._end = 0
        self._is_device = on_cpu

    def begin(self) -> None:
        self._end = 0

    def array(self, count: int, dtype: type[np.generic]) -> tuple[NDArray[Any], torch.Tensor]:
        """`count` numbers to be filled on the host, and what they will be on the device."""
        size = count * np.dtype(dtype).itemsize
        place = slice(self._end, self._end + size)
        self._end += -(-size // ALIGNMENT) * ALIGNMENT
        return self._bytes[place].view(dtype), self._device[place].view(TORCH_DTYPES[dtype])

    def upload(self) -> None:
        """Starts the copy of everything filled since `begin`."""
        if not self._is_device:
            used = slice(0, self._end)
            self._device[used].copy_(self._host[used], non_blocking=True)


class BlockTables:
    """The block table of each seat, kept up to date by what changed."""

    def __init__(self, num_seats: int, pages_per_seat: int) -> None:
        self.array = np.zeros((num_seats, pages_per_seat), np.int32)
        self._admissions = [NEVER] * num_seats
        self._num_known = [0] * num_seats

    def update(self, sequence: Sequence) -> None:
        """Makes the row of the sequence's seat equal to its table's entries."""
        seat, entries = sequence.seat, sequence.entries
        if self._admissions[seat] != sequence.admission:
            self._admissions[seat] = sequence.admission
            self._num_known[seat] = 0
        known = self._num_known[seat]
        if known != len(entries):
            self.array[seat, known : len(entries)] = entries[known:]
            self._num_known[seat] = len(entries)


class Staged(NamedTuple):
    """A plan on the device: its batch, and the seat of each sampling row, (S,) int64."""

    batch: Batch
    seats: torch.Tensor


class Stager:
    """Builds the Batch of a plan in reused buffers; it is valid until the next `stage` but one.

    Tokens that the host does not know yet are taken from `last_tokens`. With `num_packed` pages are
    packed, and table entries from there on are wide pages. `num_written` is how many pages, from
    the first on, have been written to; `num_sealed` how many packed ones have been filled.
    """

    def __init__(
        self,
        device: torch.device,
        block_size: int,
        max_num_seqs: int,
        max_num_tokens: int,
        max_model_len: int,
        last_tokens: LastTokens,
        num_packed: int = 0,
    ) -> None:
        pages_per_seat = -(-max_model_len // block_size)
        self.tables = BlockTables(max_num_seqs, pages_per_seat)
        self.num_written = 0
        self.num_sealed = 0
        self._block_size = block_size
        self._num_packed = num_packed
        self._last_tokens = last_tokens
        per_seq = 4 * pages_per_seat + 4 * 8 + 4
        seal_bytes = 16 * (max_num_seqs + max_num_tokens // block_size) if num_packed else 0
        num_bytes = max_num_seqs * per_seq + 4 * 8 * max_num_tokens + seal_bytes + 17 * ALIGNMENT
        # Two: one step may be under way while the next is staged.
        self._buffers = cycle([UploadBuffer(num_bytes, device) for _ in range(2)])

    def stage(self, plan: Plan) -> Staged:
        """The plan's tokens, and logits wanted of: each sampling row's last token, in plan order,
        then every token whose successor's prompt log-probability is asked for."""
        rows, buffer = plan.rows, next(self._buffers)
        array = buffer.array
        query_lens = tuple([row.num_tokens for row in rows])
        context_lens = tuple([row.start + row.num_tokens for row in rows])
        width = -(-max(context_lens) // self._block_size)
        offsets = [0, *accumulate(query_lens)]
        wanted = _logit_rows(rows, offsets)
        pending = _pending(plan)
        sampling = [row.sequence.seat for row in rows if row.samples]
        buffer.begin()
        ids, token_ids = array(plan.num_tokens, np.int64)
        places, positions = array(plan.num_tokens, np.int64)
        targets, slots = array(plan.num_tokens, np.int64)
        starts, query_starts = array(len(offsets), np.int32)
        lens, context_lens_device = array(len(rows), np.int32)
        tables, block_tables = array(len(rows) * width, np.int32)
        logits, logit_rows = array(len(wanted), np.int64)
        hidden, hidden_places = array(len(pending), np.int64)
        hidden_from, hidden_seats = array(len(pending), np.int64)
        seats, sampling_seats = array(len(sampling), np.int64)
        filled, seals = array(2 * len(plan.seals), np.int64)
        if plan.seals:
            filled.reshape(-1, 2)[:] = plan.seals
        starts[:], lens[:], logits[:] = offsets, context_lens, wanted
        hidden[:], seats[:] = pending, sampling
        hidden_from[:] = [rows[place].sequence.seat for place in pending]
        self._fill_tables(rows, tables.reshape(len(rows), width))
        self._fill_decode(rows[: plan.num_decode], ids, places, targets)
        for row, start in islice(zip(rows, offsets, strict=False), plan.num_decode, None):
            chunk = slice(start, start + row.num_tokens)
            self._fill_chunk(row, ids[chunk], places[chunk], targets[chunk])
        self._note(targets, filled)
        buffer.upload()
        if pending:
            self._last_tokens.fill(token_ids, hidden_places, hidden_seats)
        batch = Batch(
            token_ids=token_ids,
            positions=positions,
            slots=slots,
            block_tables=block_tables.view(len(rows), width),
            query_starts=query_starts,
            context_lens_device=context_lens_device,
            logit_rows=logit_rows,
            query_lens=query_lens,
            context_lens=context_lens,
            packing=self._packing(seals) if self._num_packed else None,
        )
        return Staged(batch, sampling_seats)

    def _packing(self, seals: torch.Tensor) -> Packing:
        pairs = seals.view(-1, 2) if len(seals) else None
        return Packing(self._block_size, self._num_packed, pairs)

    def _note(self, targets: NDArray[Any], filled: NDArray[Any]) -> None:
        self.num_written = max(self.num_written, int(targets.max()) // self._block_size + 1)
        if len(filled):
            self.num_sealed = max(self.num_sealed, int(filled[1::2].max()) + 1)

    def _fill_tables(self, rows: list[PlanRow], tables: NDArray[Any]) -> None:
        for row in rows:
            self.tables.update(row.sequence)
        seats = [row.sequence.seat for row in rows]
        np.take(self.tables.array[:, : tables.shape[1]], seats, axis=0, out=tables)

    def _fill_decode(
        self,
        rows: list[PlanRow],
        ids: NDArray[Any],
        places: NDArray[Any],
        targets: NDArray[Any],
    ) -> None:
        size, count = self._block_size, len(rows)
        ids[:count] = [_token(row) for row in rows]
        places[:count] = [row.start for row in rows]
        targets[:count] = [
            row.sequence.targets[row.start // size] * size + row.start % size for row in rows
        ]

    def _fill_chunk(
        self, row: PlanRow, ids: NDArray[Any], places: NDArray[Any], targets: NDArray[Any]
    ) -> None:
        size, end = self._block_size, row.start + row.num_tokens
        ids[:] = row.sequence.token_ids[row.start : end]
        places[:] = range(row.start, end)
        pages = range(row.start // size, -(-end // size))
        wide = np.array([row.sequence.targets[page] for page in pages], np.int64)
        targets[:] = wide[places // size - pages.start] * size + places % size


def _token(row: PlanRow) -> int:
    """The token of a decoding row; any where it is not known."""
    tokens = row.sequence.token_ids
    return tokens[row.start] if row.start < len(tokens) else 0


def _pending(plan: Plan) -> list[int]:
    """Places on the token axis of the tokens that are not known; only decoding rows have them."""
    decoding = islice(plan.rows, plan.num_decode)
    return [place for place, row in enumerate(decoding) if row.start >= len(row.sequence.token_ids)]


def _logit_rows(rows: list[PlanRow], starts: list[int]) -> list[int]:
    """Offsets on the token axis: of the sampling rows first, then of prompt log-probabilities."""
    wanted = [end - 1 for row, end in zip(rows, starts[1:], strict=True) if row.samples]
    for row, start in zip(rows, starts[:-1], strict=True):
        if row.sequence.wants_prompt_logprobs:
            wanted.extend(range(start, start + num_prompt_logprobs(row)))
    return wanted


def num_prompt_logprobs(row: PlanRow) -> int:
    """Of how many tokens of this row the successor belongs to the prompt."""
    return max(0, min(row.start + row.num_tokens, row.sequence.num_prompt - 1) - row.start)
