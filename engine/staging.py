"""From a plan to the tensors of one forward pass."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast

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
UNKNOWN: Final = -1
MAX_LAYOUTS: Final = 64

Size = tuple[int, type[np.generic]]
Array = TypeVar("Array")


class Layout(NamedTuple):
    """The arrays of one step: to be filled on the host, and what they will be on the device."""

    hosts: list[NDArray[Any]]
    devices: list[torch.Tensor]
    used: slice


class UploadBuffer:
    """One run of host bytes that the arrays of a step lie in, and goes to the device in one copy.

    Pinned, with a twin on the device, for CUDA; on the CPU the arrays are the tensors. Valid until
    the next `arrays`, so the step that was staged in it must be done by then.
    """

    def __init__(self, num_bytes: int, device: torch.device) -> None:
        on_cpu = device.type == "cpu"
        self._host = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=not on_cpu)
        self._bytes = self._host.numpy()
        self._device = self._host if on_cpu else torch.empty_like(self._host, device=device)
        self._used = slice(0)
        self._is_device = on_cpu
        self._layouts: dict[tuple[Size, ...], Layout] = {}

    def arrays(self, sizes: tuple[Size, ...]) -> Layout:
        """An array of each size.

        Steps like the one before find theirs made: two views take 4 us, and there are eleven.
        """
        layout = self._layouts.get(sizes)
        if layout is None:
            if len(self._layouts) >= MAX_LAYOUTS:
                self._layouts.clear()
            layout = self._layouts[sizes] = self._layout(sizes)
        self._used = layout.used
        return layout

    def _layout(self, sizes: tuple[Size, ...]) -> Layout:
        hosts: list[NDArray[Any]] = []
        devices: list[torch.Tensor] = []
        end = 0
        for count, dtype in sizes:
            num_bytes = count * np.dtype(dtype).itemsize
            place = slice(end, end + num_bytes)
            end += -(-num_bytes // ALIGNMENT) * ALIGNMENT
            hosts.append(self._bytes[place].view(dtype))
            devices.append(self._device[place].view(TORCH_DTYPES[dtype]))
        return Layout(hosts, devices, slice(end))

    def upload(self) -> None:
        """Starts the copy of everything in the arrays asked for last."""
        if not self._is_device:
            self._device[self._used].copy_(self._host[self._used], non_blocking=True)


class BlockTables:
    """The block table of each seat, kept up to date by what changed."""

    def __init__(self, num_seats: int, pages_per_seat: int) -> None:
        self.array = np.zeros((num_seats, pages_per_seat), np.int32)
        self._admissions = [NEVER] * num_seats
        self._num_known = [0] * num_seats

    def update(self, sequences: Iterable[Sequence]) -> None:
        """Makes the row of each sequence's seat equal to its table's entries."""
        admissions, num_known = self._admissions, self._num_known
        for sequence in sequences:
            seat, entries = sequence.seat, sequence.entries
            if admissions[seat] != sequence.admission:
                admissions[seat] = sequence.admission
                num_known[seat] = 0
            known = num_known[seat]
            if known != len(entries):
                self.array[seat, known : len(entries)] = entries[known:]
                num_known[seat] = len(entries)


class Arrays(NamedTuple, Generic[Array]):
    """What a step brings, on the host or on the device.

    Of each token its id, place in its context and slot; of each row where its tokens begin, how
    long its context is and its pages; then the rows that logits are wanted of, tokens that only the
    device knows and whose they are, the seats that sample, and pairs of pages to seal.
    """

    token_ids: Array
    positions: Array
    slots: Array
    query_starts: Array
    context_lens: Array
    block_tables: Array
    logit_rows: Array
    pending_places: Array
    pending_seats: Array
    sampling_seats: Array
    seals: Array


def _sizes(
    plan: Plan, width: int, num_wanted: int, num_pending: int, num_sampling: int
) -> tuple[Size, ...]:
    """Of `Arrays`."""
    num_rows, of_tokens = len(plan.rows), (plan.num_tokens, np.int64)
    return (
        of_tokens,
        of_tokens,
        of_tokens,
        (num_rows + 1, np.int32),
        (num_rows, np.int32),
        (num_rows * width, np.int32),
        (num_wanted, np.int64),
        (num_pending, np.int64),
        (num_pending, np.int64),
        (num_sampling, np.int64),
        (2 * len(plan.seals), np.int64),
    )


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
        rows, count = plan.rows, plan.num_decode
        begins = np.array([row.start for row in rows])
        lens = np.array([row.num_tokens for row in rows])
        seats = np.array([row.sequence.seat for row in rows])
        ends, offsets = begins + lens, [0, *lens.cumsum().tolist()]
        width = -(-int(ends.max()) // self._block_size)
        tokens = _tokens(rows[:count])
        pending = [place for place, token in enumerate(tokens) if token == UNKNOWN]
        wanted = [*range(count), *_logit_rows(rows[count:], offsets[count:])]
        sampling = [n for n, row in enumerate(rows) if row.samples]
        buffer = next(self._buffers)
        layout = buffer.arrays(_sizes(plan, width, len(wanted), len(pending), len(sampling)))
        host, device = Arrays(*layout.hosts), Arrays(*layout.devices)
        if plan.seals:
            host.seals.reshape(-1, 2)[:] = plan.seals
        host.query_starts[:], host.context_lens[:], host.logit_rows[:] = offsets, ends, wanted
        host.sampling_seats[:] = seats[sampling]
        host.pending_places[:] = pending
        host.pending_seats[:] = seats[pending]
        tables = host.block_tables.reshape(len(rows), width)
        self.tables.update([row.sequence for row in rows])
        np.take(self.tables.array[:, :width], seats, axis=0, out=tables)
        host.token_ids[:count], host.positions[:count] = tokens, begins[:count]
        host.slots[:count] = self._decode_slots(rows[:count], begins[:count], tables)
        for row, start in zip(rows[count:], offsets[count:], strict=False):
            self._fill_chunk(row, host, slice(start, start + row.num_tokens))
        self._note(host.slots, host.seals)
        buffer.upload()
        if pending:
            self._last_tokens.fill(device.token_ids, device.pending_places, device.pending_seats)
        batch = Batch(
            token_ids=device.token_ids,
            positions=device.positions,
            slots=device.slots,
            block_tables=device.block_tables.view(len(rows), width),
            query_starts=device.query_starts,
            context_lens_device=device.context_lens,
            logit_rows=device.logit_rows,
            query_lens=tuple(lens.tolist()),
            context_lens=tuple(ends.tolist()),
            packing=self._packing(device.seals) if self._num_packed else None,
        )
        return Staged(batch, device.sampling_seats)

    def _packing(self, seals: torch.Tensor) -> Packing:
        pairs = seals.view(-1, 2) if len(seals) else None
        return Packing(self._block_size, self._num_packed, pairs)

    def _note(self, targets: NDArray[Any], filled: NDArray[Any]) -> None:
        self.num_written = max(self.num_written, int(targets.max()) // self._block_size + 1)
        if len(filled):
            self.num_sealed = max(self.num_sealed, int(filled[1::2].max()) + 1)

    def _decode_slots(
        self, rows: list[PlanRow], places: NDArray[Any], tables: NDArray[Any]
    ) -> NDArray[Any] | list[int]:
        size = self._block_size
        if self._num_packed:  # a token is written to the wide page beside its entry
            return [
                row.sequence.targets[row.start // size] * size + row.start % size for row in rows
            ]
        pages = tables[np.arange(len(rows)), places // size]
        return cast("NDArray[Any]", pages.astype(np.int64) * size + places % size)

    def _fill_chunk(self, row: PlanRow, host: Arrays[NDArray[Any]], chunk: slice) -> None:
        size, end = self._block_size, row.start + row.num_tokens
        host.token_ids[chunk] = row.sequence.token_ids[row.start : end]
        places = host.positions[chunk]
        places[:] = range(row.start, end)
        pages = range(row.start // size, -(-end // size))
        targets = np.array([row.sequence.targets[page] for page in pages], np.int64)
        host.slots[chunk] = targets[places // size - pages.start] * size + places % size


def _tokens(rows: list[PlanRow]) -> list[int]:
    """The token of each decoding row; UNKNOWN while the step before samples it."""
    return [
        known[row.start] if row.start < len(known := row.sequence.token_ids) else UNKNOWN
        for row in rows
    ]


def _logit_rows(rows: list[PlanRow], starts: list[int]) -> list[int]:
    """Offsets on the token axis of prompts' chunks, whose tokens lie from `starts` on: of the
    sampling rows first, then of prompt log-probabilities."""
    wanted = [end - 1 for row, end in zip(rows, starts[1:], strict=True) if row.samples]
    for row, start in zip(rows, starts[:-1], strict=True):
        if row.sequence.wants_prompt_logprobs:
            wanted.extend(range(start, start + num_prompt_logprobs(row)))
    return wanted


def num_prompt_logprobs(row: PlanRow) -> int:
    """Of how many tokens of this row the successor belongs to the prompt."""
    return max(0, min(row.start + row.num_tokens, row.sequence.num_prompt - 1) - row.start)
