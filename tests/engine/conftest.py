"""A runner without a model, so that the loop around it is tested in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from engine.ceilings import Ceilings
from engine.config import EngineConfig, SamplingParams, SchedulerConfig
from engine.core import EngineCore
from engine.kv.packed_plan import PackedPlan
from engine.loading import Loaded
from engine.memory_plan import plan_packing
from engine.models.config import ModelConfig
from engine.models.folder import ModelFolder
from engine.models.progress import silent
from engine.plan import Plan, RunnerMemory, StepResult
from engine.request import EngineRequest, TokenLogprobs, TokenOutput
from engine.run_delay import RunDelay
from engine.sequence import Sequence as EngineSequence
from profiler.events import AnyEvent, KernelRow

VOCAB = 1000
EOS = 2


def next_token(tokens: Sequence[int]) -> int:
    """The fake model: a token depends on all that came before it, and is never the EOS."""
    return 3 + (sum(tokens) * 31 + len(tokens) * 7) % (VOCAB - 3)


class FakeRunner:
    """Remembers what was written to which page, and answers from that memory alone.

    A page table that points to a wrong, stale or shared-and-overwritten page therefore shows up
    as a wrong token.
    """

    page_bytes = 1
    device_type = "cpu"
    dtype = "float32"

    def __init__(
        self,
        num_pages: int,
        block_size: int,
        max_model_len: int,
        runs_ahead: bool,
        packed: PackedPlan | None,
        num_wide_pages: int,
    ) -> None:
        self.num_pages = num_pages
        self.packed = packed
        self.num_wide_pages = num_wide_pages
        # Wide pages come after packed ones, as in block tables; without packing all are written to.
        self.first_written = num_pages if packed else 0
        self.block_size = block_size
        self.max_model_len = max_model_len
        self.runs_ahead = runs_ahead
        self.cells = [[-1] * block_size for _ in range(num_pages + num_wide_pages)]
        self.last: dict[int, int] = {}
        self.plans: list[Plan] = []
        self.num_under_way = 0
        self.fail_next = False
        self.fail_launch = False
        self.profiled_from = 0

    def launch(self, plan: Plan) -> StepResult:
        """Computes at once, as a device does that takes steps in turn."""
        if self.fail_launch:
            self.fail_launch = False
            raise RuntimeError("no room on the device")
        self.plans.append(plan)
        self.num_under_way += 1
        assert self.num_under_way <= 1 + self.runs_ahead
        prompt_logprobs: dict[int, list[TokenLogprobs]] = {}
        for row in plan.rows:
            sequence = row.sequence
            for i in range(row.start, row.start + row.num_tokens):
                page = sequence.targets[i // self.block_size] + self.first_written
                self.cells[page][i % self.block_size] = self.token(sequence, i)
            if sequence.wants_prompt_logprobs:
                end = min(row.start + row.num_tokens + 1, sequence.num_prompt)
                prompt_logprobs[sequence.number] = [
                    TokenLogprobs(sequence.token_ids[i], -1.0, 1) for i in range(row.start + 1, end)
                ]
        for wide, packed in plan.seals:
            self.cells[packed] = list(self.cells[self.first_written + wide])
        tokens: list[int] = []
        for row in plan.rows:
            if row.samples:
                tokens.append(next_token(self.read(row.sequence, row.start + row.num_tokens)))
                self.last[row.sequence.seat] = tokens[-1]
        logprobs = [TokenLogprobs(t, -0.5, 1) for t in tokens]
        return StepResult(tokens, logprobs, prompt_logprobs, 0, None)

    def token(self, sequence: EngineSequence, index: int) -> int:
        known = index < len(sequence.token_ids)
        return sequence.token_ids[index] if known else self.last[sequence.seat]

    def collect(self, handle: StepResult) -> StepResult:
        self.num_under_way -= 1
        if self.fail_next:
            self.fail_next = False
            raise RuntimeError("the device caught fire\nhere is how")
        return handle

    def read(self, sequence: EngineSequence, count: int) -> list[int]:
        """Its own page where it is written, those before it where the block table says."""
        own = (count - 1) // self.block_size
        pages = [*sequence.entries[:own], sequence.targets[own] + self.first_written]
        return [self.cells[pages[i // self.block_size]][i % self.block_size] for i in range(count)]

    def start_profile(self) -> None:
        assert not self.num_under_way or self.runs_ahead
        self.profiled_from = len(self.plans)

    def stop_profile(self) -> tuple[KernelRow, ...]:
        return (KernelRow("launch", len(self.plans) - self.profiled_from, 7),)

    def memory(self) -> RunnerMemory:
        return RunnerMemory("fake", 1, 2, 3, 0, 10)


class CoreBench:
    """An EngineCore over a FakeRunner, with a clock that moves 1 ms a look, and what came out."""

    def __init__(
        self,
        config: EngineConfig,
        num_pages: int,
        max_model_len: int,
        ceilings: Ceilings | None,
        wide_seqs: int | None = None,
    ) -> None:
        runs_ahead = bool(config.scheduler.async_scheduling)
        packed, num_wide = None, 0
        if wide_seqs is not None:
            packed = plan_packing(
                msgspec.structs.replace(config, kv_cache_dtype="int4"),
                ModelConfig("llama", 1, 8, 16, 1, 1, 32, VOCAB, max_model_len),
                4,
                torch.device("cpu"),
            )
            num_wide = packed.num_wide_for(wide_seqs)
        self.runner = FakeRunner(
            num_pages, config.page_tokens, max_model_len, runs_ahead, packed, num_wide
        )
        self.events: list[AnyEvent] = []
        self.outputs: dict[int, list[int]] = {}
        self.reasons: dict[int, str] = {}
        self.last: list[TokenOutput] = []
        self.now_ns = 0
        shape = ModelConfig("llama", 2, 8, 16, 2, 1, 4, VOCAB, max_model_len)
        folder = ModelFolder(Path("nowhere"), "fake", shape)
        self.core = EngineCore(
            config,
            Path("nowhere"),
            self.events.append,
            silent,
            self.clock,
            lambda *_: Loaded(folder, self.runner, ceilings),
        )

    def clock(self) -> int:
        self.now_ns += 1_000_000
        return self.now_ns

    def add(self, number: int, prompt: Sequence[int], priority: int = 0, **params: Any) -> None:
        settings = SamplingParams(**{"temperature": 0.0, **params})
        self.core.add(
            EngineRequest(
                number, f"r{number}", tuple(prompt), settings, priority, eos_token_ids=(EOS,)
            )
        )
        self.outputs[number] = []

    def step(self) -> list[TokenOutput]:
        self.last = self.core.step()
        self.core.check()
        for output in self.last:
            self.outputs[output.request] += output.token_ids
            if output.finish_reason is not None:
                self.reasons[output.request] = output.finish_reason
        return self.last

    def run(self, max_steps: int = 10_000) -> None:
        while self.core.has_work:
            max_steps -= 1
            assert max_steps, "the core does not come to an end"
            self.step()

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def core_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CoreBench]:
    # Its clock is driven, and what its threads waited is this machine's.
    monkeypatch.setattr("engine.core.RunDelay", lambda: RunDelay(tmp_path / "no threads"))

    def make(
        num_pages: int = 64,
        block_size: int = 4,
        max_model_len: int = 128,
        prefix: bool = True,
        ceilings: Ceilings | None = None,
        wide_seqs: int | None = None,
        sinks: int = 1,
        **scheduler: Any,
    ) -> CoreBench:
        """With `wide_seqs` pages are packed, and wide ones are there for so many sequences."""
        config = EngineConfig(
            kv_sink_pages=sinks,
            block_size=block_size,
            enable_prefix_caching=prefix,
            scheduler=SchedulerConfig(**{"max_num_batched_tokens": 64, **scheduler}),
        )
        return CoreBench(config, num_pages, max_model_len, ceilings, wide_seqs)

    return make


@pytest.fixture
def expected() -> Callable[[Sequence[int], int], list[int]]:
    """What the fake model says after a prompt."""

    def continuation(prompt: Sequence[int], count: int) -> list[int]:
        tokens = list(prompt)
        for _ in range(count):
            tokens.append(next_token(tokens))
        return tokens[len(prompt) :]

    return continuation
