"""What one step is to do, and what came of it: the scheduler's words to the runner and back."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from engine.kv.packed_plan import PackedPlan
from engine.request import TokenLogprobs, TokenOutput
from engine.sequence import Sequence
from profiler.events import KernelRow


class PlanRow(NamedTuple):
    """Compute `num_tokens` tokens of a sequence from `start` on; `samples`: its next token too."""

    sequence: Sequence
    start: int
    num_tokens: int
    samples: bool

    @property
    def num_output(self) -> int:
        """How many tokens of output the sequence has before the one that this row samples."""
        return self.start + self.num_tokens - self.sequence.num_prompt


class Admission(NamedTuple):
    """A sequence that got its pages in this step; `cached_tokens` of its context are computed."""

    sequence: Sequence
    cached_tokens: int
    resumed: bool


class Preemption(NamedTuple):
    """A sequence that gave up its pages, and the computed tokens that it lost with them."""

    sequence: Sequence
    lost_tokens: int


class Plan(NamedTuple):
    """One step: decoding rows first, in the order of their sequences' keys, then prefill.

    `waits_for` is what the first sequence in the queue lacks: as in `Step`. `seals` are the wide
    and the packed pages that it fills.
    """

    rows: list[PlanRow]
    num_decode: int
    num_tokens: int
    admitted: list[Admission]
    preempted: list[Preemption]
    waits_for: str = ""
    seals: tuple[tuple[int, int], ...] = ()


class Flight(NamedTuple):
    """A plan under way: `handle` is the runner's, None if launching it raised `error`.

    `follows` another: the device had work when this one was planned.
    """

    plan: Plan
    begin_ns: int
    follows: bool
    handle: Any
    error: Exception | None = None


class StepResult(NamedTuple):
    """What a launched plan gave.

    `tokens` and `logprobs` have one entry per sampling row, in plan order. `prompt_logprobs` maps a
    request to those of the prompt tokens that follow the ones computed in this step. `busy_ns` is
    the time the host was kept by the computation; `device_ns` what the device spent and
    `device_gap_ns` how long it rested before, None where they are not measured (on the CPU the host
    is the device). `graph` is as in `Step`.
    """

    tokens: list[int]
    logprobs: list[TokenLogprobs | None] | None
    prompt_logprobs: dict[int, list[TokenLogprobs]]
    busy_ns: int
    device_ns: int | None
    graph: str = ""
    device_gap_ns: int | None = None


class StepTimes(NamedTuple):
    """Of one step, as in `Step`."""

    begin_ns: int
    end_ns: int
    host_ns: int
    device_ns: int | None = None
    device_gap_ns: int | None = None
    processor_wait_ns: int | None = None


class Outcome:
    """What one step changed, gathered row by row; what is emitted and sent comes from here.

    `rows` are the plan's rows that were committed, each with the tokens that it put out. `firsts`
    got their first token in it, `finished` their last, with the reason.
    """

    __slots__ = ("finished", "firsts", "outputs", "rows")

    def __init__(self) -> None:
        self.outputs: list[TokenOutput] = []
        self.rows: list[tuple[PlanRow, int]] = []
        self.firsts: list[Sequence] = []
        self.finished: list[tuple[Sequence, str]] = []


class RunnerMemory(NamedTuple):
    """Bytes of the device's memory by use, as in `MemorySample`; `total_bytes` holds them and
    everything else."""

    device: str
    weights_bytes: int
    kv_bytes: int
    activation_bytes: int
    graph_bytes: int
    total_bytes: int
    kv_wide_bytes: int = 0


class Runner(Protocol):
    """Turns plans into tokens. `launch` may return before the work is done; `collect` waits.

    With `runs_ahead` a plan may be launched before the one before it is collected. With `packed`
    full pages are, and there are `num_wide_pages` for those that are not; these are in `dtype`.
    """

    runs_ahead: bool

    device_type: str
    dtype: str
    num_pages: int
    page_bytes: int
    max_model_len: int
    packed: PackedPlan | None
    num_wide_pages: int

    def launch(self, plan: Plan) -> Any: ...

    def collect(self, handle: Any) -> StepResult: ...

    def memory(self) -> RunnerMemory: ...

    def start_profile(self) -> None: ...

    def stop_profile(self) -> tuple[KernelRow, ...]:
        """What ran since `start_profile`; waits for it. Raises: RuntimeError, as the other does."""
        ...
