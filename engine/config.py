"""Frozen settings. Names and defaults are those vLLM's users know."""

from __future__ import annotations

from typing import Literal

import msgspec


class SchedulerConfig(msgspec.Struct, frozen=True):
    """How requests share the steps. `max_num_batched_tokens` bounds the tokens of one step.

    `async_scheduling`: a step is planned and launched before the tokens of the step before are
    known; None where the device computes beside the host, that is on CUDA.
    """

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    enable_chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    scheduling_policy: Literal["fcfs", "priority"] = "fcfs"
    async_scheduling: bool | None = None
    max_num_queued_reqs: int = 1024
    max_num_queued_tokens: int | None = None

    def runs_ahead(self, device_type: str) -> bool:
        if self.async_scheduling is None:
            return device_type == "cuda"
        return self.async_scheduling


class EngineConfig(msgspec.Struct, frozen=True):
    """`model` is anything the registry resolves: a name, folder, .gguf, hub id or random:NAME.

    `kv_cache_dtype` packs full pages, all layers alike, `kv_config` names a file with formats by
    layer; the first `kv_sink_pages` pages of a sequence stay as they are. With `rehearse_capture`
    the kernel profiler runs once at start, so that its first window holds nobody up.
    """

    model: str = "smollm2-135m-instruct"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    block_size: int | None = None
    max_model_len: int | None = None
    gpu_memory_utilization: float = 0.9
    kv_cache_memory_bytes: int | None = None
    kv_cache_dtype: Literal["auto", "fp8", "int8", "int4", "int2", "k8v4", "k4v2"] = "auto"
    kv_config: str | None = None
    kv_sink_pages: int = 1
    num_gpu_blocks_override: int | None = None
    enable_prefix_caching: bool = True
    enforce_eager: bool = False
    seed: int = 0
    num_threads: int | None = None
    rehearse_capture: bool = False
    scheduler: SchedulerConfig = SchedulerConfig()

    @property
    def packs_pages(self) -> bool:
        return self.kv_cache_dtype != "auto" or self.kv_config is not None

    @property
    def page_tokens(self) -> int:
        """`block_size`, or where none was asked for 16 tokens a page; 64 if pages are packed."""
        return self.block_size or (64 if self.packs_pages else 16)

    @property
    def step_tokens(self) -> int:
        """What one step computes at most where a prompt may be cut."""
        return max(self.scheduler.max_num_batched_tokens, self.scheduler.max_num_seqs)


class SamplingParams(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one request's tokens are chosen and when it ends.

    `temperature` 0 is greedy. `top_k` 0 is off. `seed` None draws one from the engine's own.
    `logprobs` None is off, k gives the k likeliest beside the chosen token's; `prompt_logprobs`
    likewise for the prompt (echo). `logit_bias` maps token ids to an addend. `n` samples share
    one prompt.
    """

    n: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    max_tokens: int | None = 16
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: dict[int, float] = {}
