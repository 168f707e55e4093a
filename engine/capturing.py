"""Windows of kernels: the profiler runs during some steps, when somebody asks for it."""

from __future__ import annotations

from collections.abc import Callable

from engine.errors import InvalidRequestError
from engine.models.progress import Progress
from engine.plan import Runner
from profiler.events import MAX_CAPTURED_STEPS, AnyEvent, KernelWindow, Log


class Capturing:
    """At most one window at a time, from the first step on that is launched after it was asked for.

    The engine tells of each launch before it, and of coming to rest.
    """

    def __init__(
        self, runner: Runner, emit: Callable[[AnyEvent], None], clock: Callable[[], int]
    ) -> None:
        self._runner = runner
        self._emit = emit
        self._clock = clock
        self._num_launched = 0
        self._num_asked = 0
        self._first_step = 0
        self._begin_ns = 0
        self._start_cost_ns = 0

    @property
    def is_busy(self) -> bool:
        return self._num_asked > 0

    def rehearse(self, progress: Progress) -> None:
        """Starts and stops the profiler over nothing. Its first start takes long, 3.7 s on an H100,
        and with a window's first step all requests would wait for it."""
        progress("profiler", 0, 0, "runs")
        try:
            self._runner.start_profile()
            self._runner.stop_profile()
        except RuntimeError as error:
            self._give_up(error)
        progress("profiler", 1, 1, "runs")

    def ask(self, num_steps: int) -> None:
        """Raises: InvalidRequestError if a window is under way or `num_steps` is out of range."""
        if not 1 <= num_steps <= MAX_CAPTURED_STEPS:
            raise InvalidRequestError(f"steps must be from 1 to {MAX_CAPTURED_STEPS}", "steps")
        if self.is_busy:
            raise InvalidRequestError("kernels are being captured already", "steps")
        self._num_asked = num_steps

    def launching(self) -> int:
        """A step is about to be launched; how long that was held up, ns."""
        self._num_launched += 1
        if not self.is_busy:
            return 0
        begin_ns = self._clock()
        if self._first_step and self._num_launched - self._first_step >= self._num_asked:
            self._end(self._num_launched - 1)
        if self._num_asked and not self._first_step:
            self._begin()
        return self._clock() - begin_ns

    def resting(self) -> None:
        """All that was launched has ended, and nothing is to be done."""
        if self._first_step:
            self._end(self._num_launched)

    def _begin(self) -> None:
        asked_ns = self._clock()
        try:
            self._runner.start_profile()
        except RuntimeError as error:
            self._give_up(error)
            return
        self._begin_ns = self._clock()
        self._start_cost_ns = self._begin_ns - asked_ns
        self._first_step = self._num_launched

    def _end(self, last_step: int) -> None:
        first_step, num_steps = self._first_step, last_step - self._first_step + 1
        end_ns = self._clock()
        try:
            kernels = self._runner.stop_profile()
        except RuntimeError as error:
            self._give_up(error)
            return
        self._num_asked = self._first_step = 0
        done_ns = self._clock()
        cost_ns = self._start_cost_ns + done_ns - end_ns
        kind, begin_ns = self._runner.device_type, self._begin_ns
        start_ns = self._start_cost_ns
        self._emit(
            KernelWindow(done_ns, begin_ns, cost_ns, first_step, num_steps, kind, kernels, start_ns)
        )

    def _give_up(self, error: RuntimeError) -> None:
        self._num_asked = self._first_step = 0
        text = f"kernels cannot be captured here: {error}".splitlines()[0]
        self._emit(Log(self._clock(), "warning", "engine", text))
