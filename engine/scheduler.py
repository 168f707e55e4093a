"""Continuous batching: which tokens of which requests the next step computes."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator
from operator import attrgetter

from engine.config import SchedulerConfig
from engine.errors import QueueFullError
from engine.invariants import require
from engine.kv.cache import PagedKVCache, Span
from engine.plan import Admission, Plan, PlanRow, Preemption
from engine.request import EngineRequest
from engine.sequence import Sequence
from engine.waiting import WaitingQueue

# Prompt log-probabilities need one row of logits per prompt token: 256 rows of 152k fp32 are
# 156 MB, which is what they may cost one step.
MAX_PROMPT_LOGPROB_TOKENS = 256

_by_key: Callable[[Sequence], tuple[int, int]] = attrgetter("key")


class Scheduler:
    """Decoding sequences go first, then prefill, oldest first, under one token budget.

    A sequence is admitted when pages for its whole context are there, so only decoding can run
    out of pages; then the sequence with the largest key gives its pages up and waits, to be
    computed again. The key is (priority, arrival), or (0, arrival) under "fcfs": the smallest key
    is never preempted, so it always finishes, so all do.

    A step may be planned while the one before is under way, if `can_plan_ahead`.
    """

    def __init__(self, config: SchedulerConfig, kv: PagedKVCache, max_model_len: int) -> None:
        self._kv = kv
        self._block_size = kv.block_size
        self._by_priority = config.scheduling_policy == "priority"
        self._chunked = config.enable_chunked_prefill
        # Without chunking the longest prompt must fit one step.
        self._token_budget = (
            config.max_num_batched_tokens
            if self._chunked
            else max(config.max_num_batched_tokens, max_model_len)
        )
        self._chunk_limit = config.long_prefill_token_threshold or self._token_budget
        self._num_seats = min(config.max_num_seqs, self._token_budget, kv.max_running)
        self._max_queued_reqs = config.max_num_queued_reqs
        self._max_queued_tokens = config.max_num_queued_tokens
        self._free_seats = list(range(self._num_seats - 1, -1, -1))
        self._running: list[Sequence] = []
        self._waiting = WaitingQueue()
        self._sequences: dict[int, Sequence] = {}
        self._num_added = 0
        self._num_admitted = 0
        self._logprob_budget = 0

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def has_work(self) -> bool:
        return bool(self._sequences)

    def get(self, request: int) -> Sequence | None:
        """The sequence, while it waits or runs."""
        return self._sequences.get(request)

    def requests(self) -> list[int]:
        """The numbers of all requests that wait or run."""
        return list(self._sequences)

    def add(self, request: EngineRequest, max_tokens: int, seed: int) -> Sequence:
        """The request's sequence, at its place in the queue. Raises: QueueFullError."""
        self._require_room(len(request.prompt_token_ids))
        self._num_added += 1
        key = (request.priority if self._by_priority else 0, self._num_added)
        sequence = Sequence(request, max_tokens, seed, key, self._block_size, self._kv.root)
        self._sequences[sequence.number] = sequence
        self._waiting.push(sequence)
        return sequence

    def remove(self, sequence: Sequence) -> None:
        """Forgets a sequence wherever it is and takes back what it holds."""
        if sequence.table is None:
            self._waiting.remove(sequence)
        else:
            self._leave(sequence)
        del self._sequences[sequence.number]

    def can_plan_ahead(self) -> bool:
        """Whether the next plan depends on no token that is still being sampled.

        It does where someone might be preempted, whose tokens must then be known.
        """
        return self._kv.pool.num_available >= len(self._running)

    def plan(self) -> Plan | None:
        """The next step, with the pages that it needs taken; None if there is nothing to do."""
        preempted: list[Preemption] = []
        rows = self._plan_decode(preempted)
        num_decode = len(rows)
        self._logprob_budget = MAX_PROMPT_LOGPROB_TOKENS
        budget = self._token_budget - num_decode
        if num_decode < len(self._running):
            budget = self._plan_prefill(rows, budget)
        admitted: list[Admission] = []
        waits_for = "pages"
        if not preempted:
            budget, waits_for = self._admit(rows, budget, admitted)
        if not rows:
            return None
        for row in rows[num_decode:]:
            row.sequence.num_computed += row.num_tokens
            row.sequence.num_pending += row.samples
        num_tokens = self._token_budget - budget
        seals = tuple(self._kv.write(_spans(rows)))
        return Plan(rows, num_decode, num_tokens, admitted, preempted, waits_for, seals)

    def commit(self, row: PlanRow) -> None:
        """The row's tokens are computed: their full pages can be shared from now on.

        A sequence that has left since the row was planned is left alone.
        """
        sequence, num_computed = row.sequence, row.start + row.num_tokens
        table = sequence.table
        if table is None:
            return
        if row.samples:
            sequence.num_pending -= 1
        if num_computed // self._block_size > table.num_settled:
            self._kv.settle(table, num_computed)

    def check(self) -> None:
        """Raises: InvariantError."""
        self._kv.check()
        seats = self._free_seats + [sequence.seat for sequence in self._running]
        require(sorted(seats) == list(range(self._num_seats)), "a seat is lost or taken twice")
        require(self._running == sorted(self._running, key=_by_key), "running is out of order")
        require(
            len(self._running) + len(self._waiting) == len(self._sequences),
            "a sequence neither runs nor waits, or both",
        )
        for sequence in self._running:
            room = len(sequence.pages) * self._block_size
            require(sequence.num_computed <= room, "more tokens computed than pages hold")
            require(sequence.num_computed < sequence.num_tokens, "nothing left to compute")

    def _plan_decode(self, preempted: list[Preemption]) -> list[PlanRow]:
        rows: list[PlanRow] = []
        block_size = self._block_size
        for sequence in list(self._running):
            start, table, pending = sequence.num_computed, sequence.table, sequence.num_pending
            known = len(sequence.token_ids) + pending
            if table is None or known != start + 1 or (pending and known >= sequence.limit):
                continue
            if start == len(table.pages) * block_size and not self._extend(sequence, preempted):
                continue
            sequence.num_computed, sequence.num_pending = start + 1, pending + 1
            rows.append(PlanRow(sequence, start, 1, True))
        return rows

    def _extend(self, sequence: Sequence, preempted: list[Preemption]) -> bool:
        """Whether the sequence got its page; False if it had to give up its own."""
        table = sequence.table
        while table is not None and not self._kv.extend(table):
            victim = self._running[-1]
            preempted.append(self._preempt(victim))
            if victim is sequence:
                return False
        return True

    def _preempt(self, victim: Sequence) -> Preemption:
        lost = victim.num_computed
        self._leave(victim)
        self._waiting.push(victim)
        return Preemption(victim, lost)

    def _leave(self, sequence: Sequence) -> None:
        if sequence.table is not None:
            self._kv.close(sequence.table)
        self._running.remove(sequence)
        self._free_seats.append(sequence.seat)
        sequence.table = None
        sequence.seat = -1
        sequence.num_computed = sequence.num_pending = 0
        sequence.prompt_logprobs = None

    def _plan_prefill(self, rows: list[PlanRow], budget: int) -> int:
        for sequence in self._running:
            if budget == 0:
                break
            if sequence.num_tokens - sequence.num_computed > 1:
                budget -= self._add_chunk(sequence, rows, budget)
        return budget

    def _add_chunk(self, sequence: Sequence, rows: list[PlanRow], budget: int) -> int:
        """Adds the sequence's next chunk to `rows`, if it may have one; its number of tokens."""
        start = sequence.num_computed
        left = len(sequence.token_ids) - start
        count = min(left, budget, self._chunk_limit)
        if sequence.wants_prompt_logprobs:
            count = min(count, self._logprob_budget)
            self._logprob_budget -= count
        if count:
            rows.append(PlanRow(sequence, start, count, count == left))
        return count

    def _admit(
        self, rows: list[PlanRow], budget: int, admitted: list[Admission]
    ) -> tuple[int, str]:
        """The budget that is left, and what the first of those who still wait lacks."""
        while (sequence := self._waiting.head()) is not None:
            lack = self._take_seat(sequence, budget)
            if lack:
                return budget, lack
            admitted.append(self._admission(sequence))
            budget -= self._add_chunk(sequence, rows, budget)
        return budget, ""

    def _take_seat(self, sequence: Sequence, budget: int) -> str:
        """ "" if the sequence now runs, with pages for all it knows and a chunk within the budget;
        else what it lacks."""
        if not self._free_seats:
            return "seats"
        if not budget or (sequence.wants_prompt_logprobs and not self._logprob_budget):
            return "tokens"
        kv = self._kv
        num_tokens = len(sequence.token_ids)
        wants_all = sequence.wants_prompt_logprobs
        prefix = [] if wants_all else kv.find_prefix(sequence.chain, num_tokens)
        cached = len(prefix) * kv.block_size
        if not wants_all and self._twin_computes_more(sequence, cached):
            return "prefix"
        if not self._chunked and num_tokens - cached > budget and not wants_all:
            return "tokens"
        # One page more for each running sequence, lest the next step preempts the newcomer.
        needed = kv.pages_for(num_tokens) - len(prefix) + len(self._running)
        if needed > kv.available_beside(prefix):
            return "pages"
        self._waiting.remove(sequence)
        sequence.table = kv.open(sequence.number, sequence.chain, num_tokens, prefix)
        sequence.num_computed = sequence.cached_tokens = cached
        sequence.seat = self._free_seats.pop()
        self._num_admitted += 1
        sequence.admission = self._num_admitted
        insort(self._running, sequence, key=_by_key)
        return ""

    def _twin_computes_more(self, sequence: Sequence, cached: int) -> bool:
        """Whether a running sequence of the same prompt is computing full pages of it.

        They are worth waiting for: then the n samples of a request share its prompt's pages.
        """
        shared = self._kv.shareable(sequence.num_prompt)
        if cached >= shared:
            return False
        prompt = sequence.request.prompt_token_ids
        return any(
            twin.table is not None
            and twin.table.num_settled * self._block_size < shared
            and twin.request.prompt_token_ids == prompt
            for twin in self._running
        )

    def _admission(self, sequence: Sequence) -> Admission:
        resumed = sequence.first_cached_tokens is not None
        if sequence.first_cached_tokens is None:
            sequence.first_cached_tokens = sequence.cached_tokens
        return Admission(sequence, sequence.cached_tokens, resumed)

    def _require_room(self, num_tokens: int) -> None:
        waiting = self._waiting
        if len(waiting) >= self._max_queued_reqs:
            raise QueueFullError(
                f"{len(waiting)} requests are waiting, which is all the queue takes",
                "send fewer at once, or raise --max-num-queued-reqs",
            )
        limit = self._max_queued_tokens
        if limit is not None and len(waiting) and waiting.num_tokens + num_tokens > limit:
            raise QueueFullError(
                f"{waiting.num_tokens} prompt tokens are waiting; {num_tokens} more exceed {limit}",
                "send fewer at once, or raise --max-num-queued-tokens",
            )


def _spans(rows: list[PlanRow]) -> Iterator[Span]:
    for row in rows:
        if row.sequence.table is not None:
            yield row.sequence.table, row.start, row.num_tokens
