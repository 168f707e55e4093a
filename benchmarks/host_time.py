"""What the host spends on a decode step besides the model, without a GPU.

    python benchmarks/host_time.py --batch 1 64 256

A real core plans, stages, commits and narrates; a runner that stages on the CPU and makes up the
tokens stands where the model would. "plan" is the scheduler, "stage" the tensors of the batch,
"commit" what the tokens change, "narrate" the events; "rest" is the step less these. Times are
medians over the decode steps, in microseconds.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import torch
from servers import ROOT, machine, print_machine, write_json

sys.path.insert(0, str(ROOT))
from engine.config import EngineConfig, SamplingParams, SchedulerConfig
from engine.core import EngineCore
from engine.last_tokens import LastTokens
from engine.loading import Loaded
from engine.models.config import ModelConfig
from engine.models.folder import ModelFolder
from engine.models.progress import silent
from engine.plan import Plan, RunnerMemory, StepResult
from engine.request import EngineRequest
from engine.staging import Stager
from profiler.events import AnyEvent

GOAL_US = 300
GOAL_BATCH = 256
BLOCK_SIZE = 16
MAX_MODEL_LEN = 20_480
VOCAB = 1_000
WARM_UP_STEPS = 20
PARTS = ("plan", "stage", "commit", "narrate")


class Spans:
    """Nanoseconds by part of the step under way, moved on to `steps` when it ends."""

    def __init__(self) -> None:
        self.steps: list[dict[str, int]] = []
        self._now: dict[str, int] = defaultdict(int)

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            begin = time.perf_counter_ns()
            try:
                return call(*args)
            finally:
                self._now[part] += time.perf_counter_ns() - begin

        return timed

    def end_step(self, total_ns: int) -> None:
        self.steps.append({**self._now, "step": total_ns})
        self._now.clear()


class MadeUpRunner:
    """Stages every plan as the real runner does on a GPU, and says token 7 to all."""

    page_bytes = 1
    packed = None
    num_wide_pages = 0
    runs_ahead = True
    device_type = "cuda"  # whose host time this is
    max_model_len = MAX_MODEL_LEN

    def __init__(self, num_pages: int, max_num_seqs: int, max_num_tokens: int) -> None:
        self.num_pages = num_pages
        cpu = torch.device("cpu")
        last_tokens = LastTokens(max_num_seqs, cpu)
        stager = Stager(cpu, BLOCK_SIZE, max_num_seqs, max_num_tokens, MAX_MODEL_LEN, last_tokens)
        self.stage = stager.stage

    def launch(self, plan: Plan) -> Plan:
        self.stage(plan)
        return plan

    def collect(self, handle: Plan) -> StepResult:
        return StepResult([7 for row in handle.rows if row.samples], None, {}, 0, None)

    def memory(self) -> RunnerMemory:
        return RunnerMemory("none", 0, 0, 0, 0, 0)


class Bench:
    """A core with `batch` requests that decode, and what its steps cost."""

    def __init__(self, batch: int, num_prompt: int, num_steps: int) -> None:
        num_output = WARM_UP_STEPS + num_steps + 8
        pages = batch * -(-(num_prompt + num_output) // BLOCK_SIZE)
        scheduler = SchedulerConfig(max_num_seqs=batch, max_num_batched_tokens=16_384)
        config = EngineConfig(block_size=BLOCK_SIZE, scheduler=scheduler)
        self._runner = MadeUpRunner(pages, batch, 16_384)
        shape = ModelConfig("llama", 2, 8, 16, 2, 1, 4, VOCAB, MAX_MODEL_LEN)
        folder = ModelFolder(Path("nowhere"), "made-up", shape)
        self.num_events = 0
        self.core = EngineCore(
            config,
            Path("nowhere"),
            self._hear,
            silent,
            load=lambda *_: Loaded(folder, self._runner),
        )
        params = SamplingParams(temperature=0.0, max_tokens=num_output, ignore_eos=True)
        for number in range(1, batch + 1):
            # Prompts that differ: no prefix is shared.
            prompt = (number % VOCAB, number // VOCAB, *([9] * (num_prompt - 2)))
            self.core.add(EngineRequest(number, f"r{number}", prompt, params))
        self._num_steps = num_steps
        self._reach_decode()

    def run(self) -> list[dict[str, int]]:
        """Nanoseconds of each part, a dict per step, with "step" for the whole."""
        spans = Spans()
        self._time_parts(spans)
        for _ in range(self._num_steps):
            begin = time.perf_counter_ns()
            self.core.step()
            spans.end_step(time.perf_counter_ns() - begin)
        return spans.steps

    def step_ns(self) -> list[int]:
        """Nanoseconds of whole steps, with nothing inside them timed."""
        found = []
        for _ in range(self._num_steps):
            begin = time.perf_counter_ns()
            self.core.step()
            found.append(time.perf_counter_ns() - begin)
        return found

    def _reach_decode(self) -> None:
        while self.core._scheduler.num_waiting:
            self.core.step()
        for _ in range(WARM_UP_STEPS):
            self.core.step()

    def _time_parts(self, spans: Spans) -> None:
        core, runner = self.core, self._runner
        core._scheduler.plan = spans.timed("plan", core._scheduler.plan)  # type: ignore[method-assign]
        runner.stage = spans.timed("stage", runner.stage)  # type: ignore[method-assign]
        core._commit = spans.timed("commit", core._commit)  # type: ignore[method-assign]
        for name in ("planned", "stepped"):
            call = getattr(core._narrator, name)
            setattr(core._narrator, name, spans.timed("narrate", call))

    def _hear(self, event: AnyEvent) -> None:
        self.num_events += 1


class Costs(NamedTuple):
    """Microseconds of a step at a batch size; `step` is of steps without timers inside."""

    batch: int
    parts_us: dict[str, float]
    step_us: float
    p99_us: float


def measure(batch: int, num_prompt: int, num_steps: int) -> Costs:
    steps = Bench(batch, num_prompt, num_steps).run()
    parts = {name: median(step.get(name, 0) for step in steps) / 1e3 for name in PARTS}
    parts["rest"] = median(s["step"] - sum(s.get(n, 0) for n in PARTS) for s in steps) / 1e3
    whole = Bench(batch, num_prompt, num_steps).step_ns()
    return Costs(batch, parts, median(whole) / 1e3, quantiles(whole, n=100)[98] / 1e3)


def print_table(found: list[Costs]) -> None:
    names = [*PARTS, "rest"]
    print(f"| batch | {' | '.join(names)} | step us | p99 us | us a row |\n|{'---|' * 9}")
    for costs in found:
        cells = [*(costs.parts_us[name] for name in names), costs.step_us, costs.p99_us]
        per_row_us = costs.step_us / costs.batch
        shown = " | ".join(f"{cell:.1f}" for cell in cells)
        print(f"| {costs.batch} | {shown} | {per_row_us:.2f} |")
    for costs in found:
        if costs.batch == GOAL_BATCH:
            verdict = "met" if costs.step_us <= GOAL_US else "missed"
            print(f"goal, at most {GOAL_US} us at {GOAL_BATCH}: {verdict}")


def profile(batch: int, num_prompt: int, num_steps: int) -> None:
    """Prints the functions that most of the steps' time is spent in, themselves alone."""
    bench, profiler = Bench(batch, num_prompt, num_steps), cProfile.Profile()
    profiler.enable()
    bench.step_ns()
    profiler.disable()
    pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64, 256])
    parser.add_argument("--input-len", type=int, default=128)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--profile", action="store_true", help="of the last batch, after the table")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    facts = machine()
    print_machine(facts)
    found = [measure(batch, args.input_len, args.steps) for batch in args.batch]
    print_table(found)
    write_json(args.json, {"machine": facts, "rows": [costs._asdict() for costs in found]})
    if args.profile:
        profile(args.batch[-1], args.input_len, args.steps)


if __name__ == "__main__":
    main()
