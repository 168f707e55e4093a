"""vLLM's offline API on the same shape, with random weights: no hub, no tokenizer.

Its variables of the environment are set by serve_gpu.py.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import vllm
from engines import Call
from orders import Settings
from vllm import LLM, SamplingParams
from vllm.sampling_params import RequestOutputKind


class VllmEngine:
    def __init__(self, settings: Settings) -> None:
        folder = Path(tempfile.mkdtemp(prefix="shape-"))
        (folder / "config.json").write_text(json.dumps(settings.shape))
        self._llm = LLM(
            model=str(folder),
            load_format="dummy",
            skip_tokenizer_init=True,
            dtype=settings.dtype,
            gpu_memory_utilization=settings.memory_fraction,
            enable_prefix_caching=False,
            max_model_len=settings.max_model_len,
            max_num_seqs=settings.max_num_seqs,
            max_num_batched_tokens=settings.max_num_batched_tokens,
            seed=0,
        )
        self._llm.apply_model(redraw)
        self.vocab_size: int = settings.shape["vocab_size"]
        self.stepper = VllmStepper(self._llm.llm_engine, self.vocab_size, settings.max_model_len)

    def facts(self) -> dict[str, Any]:
        config = self._llm.llm_engine.vllm_config
        return {
            "vllm": vllm.__version__,
            "torch": torch.__version__,
            "cudagraph_mode": str(config.compilation_config.cudagraph_mode),
            "async_scheduling": config.scheduler_config.async_scheduling,
            "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
            "num_pages": config.cache_config.num_gpu_blocks,
            "block_size": config.cache_config.block_size,
        }

    def generate(self, prompts: list[list[int]], output_lens: Sequence[int]) -> Call:
        inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
        params = [_greedy(length, RequestOutputKind.FINAL_ONLY) for length in output_lens]
        outputs = self._llm.generate(inputs, params, use_tqdm=False)
        return Call([list(output.outputs[0].token_ids) for output in outputs])


class VllmStepper:
    def __init__(self, engine: Any, vocab_size: int, max_model_len: int) -> None:
        self.vocab_size = vocab_size
        self.max_model_len = max_model_len
        self._engine = engine
        self._own_ids: dict[str, str] = {}

    def add(self, name: str, prompt: Sequence[int], num_output: int) -> None:
        params = _greedy(num_output, RequestOutputKind.DELTA)
        own_id = self._engine.add_request(name, {"prompt_token_ids": list(prompt)}, params)
        self._own_ids[name] = own_id or name

    def step(self) -> dict[str, int]:
        return {o.request_id: len(o.outputs[0].token_ids) for o in self._engine.step()}

    def drop(self, names: Sequence[str]) -> None:
        held = [self._own_ids.pop(name) for name in names if name in self._own_ids]
        self._engine.abort_request(held, internal=True)
        while self._engine.has_unfinished_requests():
            self._engine.step()


def create(settings: Settings) -> VllmEngine:
    return VllmEngine(settings)


def redraw(model: torch.nn.Module) -> None:
    """Normal(0, 0.02) and norms of 1: dummy weights are too small to spread the logits."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.data.fill_(1.0 if "norm" in name else 0.0)
        else:
            parameter.data.normal_(0.0, 0.02)
    torch.cuda.synchronize()


def _greedy(num_output: int, kind: RequestOutputKind) -> SamplingParams:
    return SamplingParams(
        temperature=0, max_tokens=num_output, ignore_eos=True, detokenize=False, output_kind=kind
    )
