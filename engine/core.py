"""The engine: requests in, one step at a time, tokens and events out."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from engine.capturing import Capturing
from engine.config import EngineConfig
from engine.errors import InvalidRequestError, QueueFullError
from engine.kv.create import create_cache
from engine.loading import Loader, load_model
from engine.models.progress import Progress
from engine.narrator import Narrator
from engine.observer_turns import ObserverTurns
from engine.plan import Flight, Outcome, Plan, StepResult, StepTimes
from engine.request import EngineRequest, TokenLogprobs, TokenOutput
from engine.run_delay import RunDelay
from engine.scheduler import Scheduler
from engine.sequence import Sequence
from engine.telling import Telling
from engine.validation import check_request
from profiler.events import AnyEvent, SessionStart

SEED_BITS = 63


class EngineCore:
    """Plans, launches, collects, commits and emits, one step a call. Not safe for threads.

    Loads the model on construction, telling `progress` about it, and hands every event to `emit`.
    Within a step the events come in this order: scheduled, preempted and page changes, the step
    itself, then first tokens and finishes, which carry the step's end as their time.

    Raises: EngineError from the constructor if the model cannot be loaded or does not fit.
    """

    def __init__(
        self,
        config: EngineConfig,
        cache_dir: Path,
        emit: Callable[[AnyEvent], None],
        progress: Progress,
        clock: Callable[[], int] = time.monotonic_ns,
        load: Loader = load_model,
    ) -> None:
        loaded = load(config, cache_dir, progress)
        self.folder = loaded.folder
        self._runner = loaded.runner
        self._kv = create_cache(config, self._runner)
        self._scheduler = Scheduler(config.scheduler, self._kv, self._runner.max_model_len)
        telling = Telling(emit)
        self._narrator = Narrator(config, loaded, self._kv, telling, clock)
        self._capturing = Capturing(self._runner, telling, clock)
        self._turns = ObserverTurns(telling, clock)
        self._clock = clock
        self._seeds = random.Random(config.seed)
        self._flight: Flight | None = None
        self._was_idle = True
        self._last_end_ns = 0
        # On a GPU threads of this process compute nothing.
        self._run_delay = RunDelay() if self._runner.device_type == "cpu" else None
        self._narrator.tell_memory(clock())
        if config.rehearse_capture:
            self._capturing.rehearse(progress)

    @property
    def has_work(self) -> bool:
        """Whether a request waits or runs, or a step is under way."""
        return self._scheduler.has_work or self._flight is not None

    @property
    def max_model_len(self) -> int:
        """The most tokens, prompt and output together, that a request may have."""
        return self._runner.max_model_len

    def session_start(self) -> SessionStart:
        """The facts of this engine, stamped with the time of the call."""
        return self._narrator.session_start()

    def add(self, request: EngineRequest) -> None:
        """Queues a request. Raises: QueueFullError, InvalidRequestError (which names the field)."""
        if self._scheduler.get(request.request) is not None:
            raise InvalidRequestError(f"request {request.request} is there already", "request")
        check_request(request, self.max_model_len, self.folder.config.vocab_size)
        params = request.params
        room = self.max_model_len - len(request.prompt_token_ids)
        max_tokens = room if params.max_tokens is None else min(room, params.max_tokens)
        seed = self._seeds.getrandbits(SEED_BITS) if params.seed is None else params.seed
        try:
            sequence = self._scheduler.add(request, max_tokens, seed)
        except QueueFullError:
            self._narrator.rejected(request)
            raise
        self._narrator.queued(sequence)

    def abort(self, request: int, reason: str) -> None:
        """Drops a request wherever it is; one that is gone already is left alone."""
        sequence = self._scheduler.get(request)
        if sequence is not None:
            self._scheduler.remove(sequence)
            self._narrator.aborted(sequence, reason)
            self._rest_if_done()

    def finish(self, request: int, reason: str) -> None:
        """Ends a request well, because its text is complete."""
        sequence = self._scheduler.get(request)
        if sequence is not None:
            self._scheduler.remove(sequence)
            self._narrator.finished_by_text(sequence, reason)
            self._rest_if_done()

    def capture(self, num_steps: int) -> None:
        """Has the kernels of the next steps told in a KernelWindow. Raises: InvalidRequestError."""
        if self._turns.is_busy:
            raise InvalidRequestError("the cost of observing is being measured")
        self._capturing.ask(num_steps)

    def measure_observer(self) -> None:
        """Has the cost of being observed measured, and told in ObserverCost events while the engine
        works on. Raises: InvalidRequestError."""
        if self._capturing.is_busy:
            raise InvalidRequestError("kernels are being captured")
        self._turns.ask()
        self._rest_if_done()

    def close(self) -> None:
        """Tells what has not been told yet; no step may follow."""
        self._turns.resting()
        if self._run_delay is not None:
            self._run_delay.close()

    def step(self) -> list[TokenOutput]:
        """What one step gave, an entry per request that got tokens or ended; [] with no work.

        If the runner runs ahead, the next step is launched before this one is waited for. A step
        that fails ends its requests with "error: ..."; the others go on.
        """
        flight = self._flight or self._take_off()
        if flight is None:
            return []
        ahead = self._runner.runs_ahead and self._scheduler.can_plan_ahead()
        following = self._take_off() if ahead else None
        outputs = self._land(flight)
        self._flight = following
        self._was_idle = not self.has_work
        if self._was_idle:
            self._capturing.resting()
        self._rest_if_done()
        return outputs

    def _rest_if_done(self) -> None:
        if not self.has_work:
            self._turns.resting()

    def check(self) -> None:
        """Compares all books with each other. Raises: InvariantError."""
        self._scheduler.check()

    def _take_off(self) -> Flight | None:
        """Plans and launches a step; None if there is nothing to compute."""
        begin_ns = self._clock()
        plan = self._scheduler.plan()
        if plan is None:
            return None
        begin_ns += self._capturing.launching()
        self._narrator.planned(plan, begin_ns)
        follows = not self._was_idle
        try:
            return Flight(plan, begin_ns, follows, self._runner.launch(plan))
        except Exception as error:
            return Flight(plan, begin_ns, follows, None, error)

    def _land(self, flight: Flight) -> list[TokenOutput]:
        """Waits for a step, commits and tells what it gave."""
        begin_ns = max(flight.begin_ns, self._last_end_ns)
        try:
            if flight.error is not None:
                raise flight.error
            result = self._runner.collect(flight.handle)
        except Exception as error:
            return self._fail(flight.plan, begin_ns, error)
        outcome = self._commit(flight.plan, result)
        end_ns = self._last_end_ns = self._clock()
        for row in flight.plan.rows:
            if row.samples:
                row.sequence.t_last_ns = end_ns
        times = StepTimes(
            begin_ns,
            end_ns,
            end_ns - begin_ns - result.busy_ns,
            result.device_ns,
            result.device_gap_ns if flight.follows else None,
            None if self._run_delay is None else self._run_delay.longest_ns(end_ns),
        )
        self._narrator.stepped(self._scheduler, flight.plan, outcome, times, result.graph)
        self._turns.landed(flight.plan.num_decode == len(flight.plan.rows), end_ns)
        return outcome.outputs

    def _commit(self, plan: Plan, result: StepResult) -> Outcome:
        outcome = Outcome()
        rows, committed = outcome.rows, self._scheduler.commit
        tokens = iter(result.tokens)
        logprobs = iter(result.logprobs or ())
        for row in plan.rows:
            sequence, samples = row.sequence, row.samples
            token, chosen = (next(tokens), next(logprobs, None)) if samples else (0, None)
            if sequence.table is None:  # it has left since it was planned
                continue
            committed(row)
            if sequence.params.prompt_logprobs is not None:
                more = result.prompt_logprobs.get(sequence.number, ())
                _keep_prompt_logprobs(sequence, more)
            num_new = self._append(outcome, sequence, token, chosen) if samples else 0
            rows.append((row, num_new))
        return outcome

    def _append(
        self, outcome: Outcome, sequence: Sequence, token: int, logprobs: TokenLogprobs | None
    ) -> int:
        """Gives the sequence its token; how many tokens it took, 0 if none was asked for."""
        num_before = len(sequence.token_ids)
        reason = sequence.append(token)
        num_new = len(sequence.token_ids) - num_before
        is_first = num_before == sequence.num_prompt
        outcome.outputs.append(
            TokenOutput(
                sequence.number,
                [token] if num_new else [],
                [logprobs] if logprobs is not None and num_new else None,
                # Those of the prompt go out with the first output.
                sequence.prompt_logprobs if is_first else None,
                reason,
                token if reason == "stop" else None,
                sequence.first_cached_tokens or 0,
            )
        )
        if num_new and is_first:
            outcome.firsts.append(sequence)
        if reason is not None:
            self._scheduler.remove(sequence)
            outcome.finished.append((sequence, reason))
        return num_new

    def _fail(self, plan: Plan, begin_ns: int, error: Exception) -> list[TokenOutput]:
        reason = f"error: {type(error).__name__}: {error}".splitlines()[0]
        sequences = [row.sequence for row in plan.rows if row.sequence.table is not None]
        for sequence in sequences:
            self._scheduler.remove(sequence)
        end_ns = self._last_end_ns = self._clock()
        times = StepTimes(begin_ns, end_ns, end_ns - begin_ns)
        self._narrator.failed(self._scheduler, plan, sequences, reason, times)
        self._turns.landed(False, end_ns)
        return [TokenOutput(s.number, [], finish_reason=reason) for s in sequences]


def _keep_prompt_logprobs(sequence: Sequence, more: Iterable[TokenLogprobs]) -> None:
    if sequence.prompt_logprobs is None:
        sequence.prompt_logprobs = [None]
    sequence.prompt_logprobs.extend(more)
