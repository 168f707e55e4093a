"""Ours: `engine.llm.LLM` in this process, with the step events that it tells of itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from engines import Call
from orders import Settings

from engine.config import SamplingParams
from engine.llm import LLM, LLMEngine, RequestOutput
from profiler.events import AnyEvent, Step


class LlmtopEngine:
    def __init__(self, settings: Settings) -> None:
        self._steps: list[Step] = []
        self._llm = LLM(
            settings.model,
            emit=self._hear,
            dtype=settings.dtype,
            device=settings.device,
            gpu_memory_utilization=settings.memory_fraction,
            enable_prefix_caching=False,
            max_model_len=settings.max_model_len,
            max_num_seqs=settings.max_num_seqs,
            max_num_batched_tokens=settings.max_num_batched_tokens,
            kv_cache_dtype=settings.kv_cache_dtype,
        )
        self.vocab_size = self._llm.tokenizer.vocab_size
        self.stepper = LlmtopStepper(self._llm._engine, self.vocab_size, settings.max_model_len)

    def facts(self) -> dict[str, Any]:
        core = self._llm._engine._core
        start, memory = core.session_start(), core._runner.memory()
        on_gpu = torch.cuda.is_available()
        size = torch.cuda.get_device_properties(0).total_memory if on_gpu else None
        return {
            "device": start.device,
            "torch": torch.__version__,
            "num_pages": start.num_pages,
            "graph_mib": round(memory.graph_bytes / 2**20),
            "device_memory_share": round(memory.total_bytes / size, 4) if size else None,
        } | {name: start.config[name] for name in ("dtype", "block_size", "max_num_batched_tokens")}

    def generate(self, prompts: list[list[int]], output_lens: Sequence[int]) -> Call:
        self._steps.clear()
        outputs = self._llm.generate(prompts, [_greedy(length) for length in output_lens])
        return Call([output.samples[0].token_ids for output in outputs], step_facts(self._steps))

    def _hear(self, event: AnyEvent) -> None:
        if isinstance(event, Step):
            self._steps.append(event)


class LlmtopStepper:
    def __init__(self, engine: LLMEngine, vocab_size: int, max_model_len: int) -> None:
        self.vocab_size = vocab_size
        self.max_model_len = max_model_len
        self._engine = engine
        self._seen: dict[str, tuple[RequestOutput, int]] = {}

    def add(self, name: str, prompt: Sequence[int], num_output: int) -> None:
        output = self._engine.add_request(name, prompt, _greedy(num_output))
        self._seen[name] = output, 0

    def step(self) -> dict[str, int]:
        given: dict[str, int] = {}
        for output in self._engine.step():
            _, before = self._seen[output.request_id]
            count = len(output.samples[0].token_ids)
            self._seen[output.request_id] = output, count
            given[output.request_id] = count - before
        return given

    def drop(self, names: Sequence[str]) -> None:
        for name in names:
            self._engine.abort_request(name)
            self._seen.pop(name, None)


def create(settings: Settings) -> LlmtopEngine:
    return LlmtopEngine(settings)


def step_facts(steps: Sequence[Step]) -> dict[str, Any]:
    """Medians over the steps that decode alone: from end to end, on the device and on the host.

    Empty without two such steps in a row; `device_ms` is None where the device is not measured.
    """
    decode = [not any(row.prefill_tokens for row in step.rows) for step in steps]
    pairs = zip(pairwise(steps), pairwise(decode), strict=True)
    intervals = [(b.end_ns - a.end_ns) / 1e6 for (a, b), both in pairs if all(both)]
    if not intervals:
        return {}
    chosen = [step for step, alone in zip(steps, decode, strict=True) if alone]
    gaps = [step.device_gap_ns / 1e3 for step in chosen if step.device_gap_ns is not None]
    devices = [step.device_ns / 1e6 for step in chosen if step.device_ns is not None]
    return {
        "interval_ms": median(intervals),
        "device_ms": median(devices) if devices else None,
        "host_ms": median(step.host_ns / 1e6 for step in chosen),
        "gap_us": median(gaps) if gaps else None,
        "num_steps": len(steps),
    }


def _greedy(num_output: int) -> SamplingParams:
    return SamplingParams(temperature=0.0, max_tokens=num_output, ignore_eos=True)
