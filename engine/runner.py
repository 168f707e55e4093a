"""Runs plans on the device: stages, forwards, samples, reads back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor

from engine.attention import create_backend
from engine.batch import Batch
from engine.config import EngineConfig
from engine.devices import choose_device, device_name, process_bytes
from engine.kv.allocate import allocate_pools
from engine.last_tokens import LastTokens
from engine.logprobs import LogprobTensors, logprobs_of
from engine.memory_plan import MemoryPlanner
from engine.models.folder import ModelFolder
from engine.models.progress import Progress
from engine.models.weights import load_decoder
from engine.penalties import Penalties
from engine.plan import Plan, PlanRow, RunnerMemory, StepResult
from engine.request import TokenLogprobs
from engine.sampling import SamplingStep
from engine.staging import Stager, num_prompt_logprobs
from engine.step_graphs import StepGraphs, planned_bytes
from engine.warmup import WarmUp
from profiler.events import KernelRow

if TYPE_CHECKING:
    from engine.kernel_profile import KernelProfile

DTYPES: Final = {
    "auto": None,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}


class Launched(NamedTuple):
    """A step under way; on CUDA its tensors are filled once `end` has passed."""

    plan: Plan
    tokens: Tensor
    logprobs: LogprobTensors | None
    prompt_logprobs: LogprobTensors | None
    begin: torch.cuda.Event | None
    end: torch.cuda.Event | None
    busy_ns: int
    graph: str


class ModelRunner:
    """Owns the weights and the page pools, one pool per layer.

    Raises: EngineError from the constructor if the model cannot be read or does not fit.
    """

    def __init__(self, config: EngineConfig, folder: ModelFolder, progress: Progress) -> None:
        shape, scheduler = folder.config, config.scheduler
        self.device = choose_device(config)
        self.device_type = str(self.device.type)
        backend = create_backend(self.device, DTYPES[config.dtype], config.num_threads)
        self.dtype = str(backend.dtype).removeprefix("torch.")
        planner = MemoryPlanner(config, shape, backend.dtype, self.device)
        self.packed = planner.packed
        max_len = planner.before_loading().max_model_len
        self._decoder = load_decoder(folder, backend, progress, config.seed)
        warm_up = WarmUp(self._decoder.forward, backend, shape, config.page_tokens, self.packed)
        most = (config.step_tokens, scheduler.max_num_seqs, max_len)
        uses_graphs = self._on_cuda and not config.enforce_eager
        if self._on_cuda:
            batches = self._step_graphs(config, max_len, 1, 1).batches() if uses_graphs else ()
            warm_up.compile_ahead(*most, batches, progress)
        self._activation_bytes = warm_up.run(*most, progress)
        graph_bytes = 0
        if uses_graphs:
            logits_bytes = scheduler.max_num_seqs * shape.vocab_size * backend.dtype.itemsize
            graph_bytes = planned_bytes(scheduler.max_num_seqs, logits_bytes, warm_up.graph_bytes)
        pages = planner.after_loading(self._activation_bytes + graph_bytes)
        self.num_pages, self.page_bytes, self.max_model_len, self.num_wide_pages = pages
        self._weights_bytes = planner.weights_bytes
        self._vocab_size = shape.vocab_size
        # With graphs one page more, which is never handed out: their padded rows write there.
        num_written = (self.num_wide_pages or self.num_pages) + uses_graphs
        self._pools = allocate_pools(
            backend, shape, config.page_tokens, self.packed, num_written, self.num_pages
        )
        backend.prepare(self._pools)
        self._backend = backend
        # Without chunked prefill a whole prompt is one step.
        longest = max(scheduler.max_num_batched_tokens, self.max_model_len)
        num_seats = scheduler.max_num_seqs
        self._last_tokens = LastTokens(num_seats, self.device)
        self._penalties = Penalties(num_seats, shape.vocab_size, self.max_model_len, self.device)
        self._stager = Stager(
            self.device,
            config.page_tokens,
            scheduler.max_num_seqs,
            longest,
            self.max_model_len,
            self._last_tokens,
            0 if self.packed is None else self.num_pages,
        )
        self.runs_ahead = scheduler.runs_ahead(self.device_type)
        self._last_end: torch.cuda.Event | None = None
        self._device_name = device_name(self.device)
        self._profile: KernelProfile | None = None
        self._graphs: StepGraphs | None = None
        self._graph_bytes = 0
        if uses_graphs:
            graphs = self._step_graphs(config, self.max_model_len, num_written, self.num_pages)
            self._graph_bytes = graphs.capture(self._decoder.forward, self._pools, progress)
            self._graphs = graphs

    def _step_graphs(
        self, config: EngineConfig, max_model_len: int, num_written: int, num_pages: int
    ) -> StepGraphs:
        """Nothing captured yet. Padded rows go to the last of the `num_written` pages."""
        return StepGraphs(
            self.device,
            config.scheduler.max_num_seqs,
            max_model_len,
            config.page_tokens,
            (num_written - 1) * config.page_tokens,
            0 if self.packed is None else num_pages,
        )

    @property
    def _on_cuda(self) -> bool:
        return bool(self.device.type == "cuda")

    def launch(self, plan: Plan) -> Launched:
        """Starts a step. On the CPU it is done on return; on CUDA the host goes on at once."""
        with torch.inference_mode():
            return self._launch(plan)

    def _launch(self, plan: Plan) -> Launched:
        batch, seats = self._stager.stage(plan)
        sampling = [row for row in plan.rows if row.samples]
        penalties = self._penalties.of([row.sequence for row in sampling], seats)
        step = SamplingStep.of(sampling, self._vocab_size, penalties)
        begin_ns = time.monotonic_ns()
        begin = self._mark()
        logits, graph = self._forward(batch)
        sampled = logits[: len(sampling)]
        tokens = self._backend.sample(sampled, step)
        logprobs = self._logprobs(sampled, tokens, sampling)
        prompt_logprobs = self._prompt_logprobs(logits[len(sampling) :], plan)
        if self.runs_ahead:
            self._last_tokens.keep(seats, tokens)
        if penalties is not None:
            penalties.keep(tokens)
        # Before `end` is recorded: a copy after it would wait for the step that follows.
        tokens = tokens.to("cpu", non_blocking=True)
        end = self._mark()
        busy_ns = 0 if self._on_cuda else time.monotonic_ns() - begin_ns
        return Launched(plan, tokens, logprobs, prompt_logprobs, begin, end, busy_ns, graph)

    def _forward(self, batch: Batch) -> tuple[Tensor, str]:
        """The logits, and "hit" or "miss": whether a graph gave them; "" without graphs."""
        if self._graphs is None:
            return self._decoder.forward(batch, self._pools), ""
        logits = self._graphs.run(batch)
        if logits is not None:
            return logits, "hit"
        return self._decoder.forward(batch, self._pools), "miss"

    def collect(self, launched: Launched) -> StepResult:
        """Waits for a step and gives what came of it."""
        begin, end, busy_ns = launched.begin, launched.end, launched.busy_ns
        device_ns = gap_ns = None
        if begin is not None and end is not None:
            begin_ns = time.monotonic_ns()
            end.synchronize()
            busy_ns = time.monotonic_ns() - begin_ns
            device_ns = int(begin.elapsed_time(end) * 1e6)
            if self._last_end is not None:
                gap_ns = int(self._last_end.elapsed_time(begin) * 1e6)
            self._last_end = end
        return StepResult(
            launched.tokens.tolist(),
            _sampled_entries(launched),
            _prompt_entries(launched),
            busy_ns,
            device_ns,
            launched.graph,
            gap_ns,
        )

    def memory(self) -> RunnerMemory:
        """Where the device's memory went; on the CPU pages count from when they are backed."""
        backed_bytes = self._backend.backed_bytes(self._pools)
        wide_page_bytes = 0 if self.packed is None else self.packed.wide_page_bytes
        if self._on_cuda:
            free, total = torch.cuda.mem_get_info(self.device)
            kv_bytes, total_bytes = backed_bytes, total - free
            wide_bytes = self._pools[0].k.shape[0] * wide_page_bytes
        else:
            # Pages are handed out from the first on, and the first are backed first. Of packed
            # caches these are the wide ones.
            written = self._stager.num_written
            used_bytes = max(written * (wide_page_bytes or self.page_bytes), backed_bytes)
            kv_bytes = used_bytes + self._stager.num_sealed * self.page_bytes
            wide_bytes = used_bytes if wide_page_bytes else 0
            total_bytes = process_bytes()
        return RunnerMemory(
            self._device_name,
            self._weights_bytes,
            kv_bytes,
            self._activation_bytes,
            self._graph_bytes,
            total_bytes,
            wide_bytes,
        )

    def start_profile(self) -> None:
        from engine.kernel_profile import (
            KernelProfile,  # the profiler's import: when it is asked for
        )

        self._synchronize()
        self._profile = KernelProfile(self._backend)
        self._profile.start()

    def stop_profile(self) -> tuple[KernelRow, ...]:
        self._synchronize()
        profile, self._profile = self._profile, None
        return () if profile is None else profile.stop()

    def _synchronize(self) -> None:
        if self._on_cuda:
            torch.cuda.synchronize(self.device)

    def _mark(self) -> torch.cuda.Event | None:
        if not self._on_cuda:
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _logprobs(
        self, logits: Tensor, tokens: Tensor, sampling: list[PlanRow]
    ) -> LogprobTensors | None:
        params = [row.sequence.params for row in sampling]
        wanted = [i for i, p in enumerate(params) if p.logprobs is not None]
        if not wanted:
            return None
        rows = torch.tensor(wanted, device=self.device)
        num_top = max(params[i].logprobs or 0 for i in wanted)
        return logprobs_of(logits[rows], tokens[rows], num_top).on_host()

    def _prompt_logprobs(self, logits: Tensor, plan: Plan) -> LogprobTensors | None:
        if not len(logits):
            return None
        followers: list[int] = []
        num_top = 0
        for row in plan.rows:
            sequence = row.sequence
            if sequence.wants_prompt_logprobs:
                first = row.start + 1
                followers += sequence.token_ids[first : first + num_prompt_logprobs(row)]
                num_top = max(num_top, sequence.params.prompt_logprobs or 0)
        followed = torch.tensor(followers, device=self.device)
        return logprobs_of(logits, followed, num_top).on_host()


def _sampled_entries(launched: Launched) -> list[TokenLogprobs | None] | None:
    if launched.logprobs is None:
        return None
    counts = [row.sequence.params.logprobs for row in launched.plan.rows if row.samples]
    entries = iter(launched.logprobs.entries([count for count in counts if count is not None]))
    return [None if count is None else next(entries) for count in counts]


def _prompt_entries(launched: Launched) -> dict[int, list[TokenLogprobs]]:
    if launched.prompt_logprobs is None:
        return {}
    wanting = [row for row in launched.plan.rows if row.sequence.wants_prompt_logprobs]
    num_tops: list[int] = []
    for row in wanting:
        num_tops += [row.sequence.params.prompt_logprobs or 0] * num_prompt_logprobs(row)
    entries = iter(launched.prompt_logprobs.entries(num_tops))
    return {
        row.sequence.number: [next(entries) for _ in range(num_prompt_logprobs(row))]
        for row in wanting
    }
