"""transformers' generate(): its default cache, sdpa attention, batches of equal lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from engines import Call
from orders import Settings
from transformers import AutoConfig, AutoModelForCausalLM


class TransformersEngine:
    stepper = None

    def __init__(self, settings: Settings) -> None:
        shape = dict(settings.shape)
        config = AutoConfig.for_model(shape.pop("model_type"), **shape)
        self._device = "cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu"
        dtype = getattr(torch, settings.dtype)
        with torch.device(self._device):
            model = AutoModelForCausalLM.from_config(
                config, dtype=dtype, attn_implementation="sdpa"
            )
        self._model = model.to(self._device).eval()
        self._model.generation_config.eos_token_id = None
        self._model.generation_config.pad_token_id = 0
        self.vocab_size = int(config.vocab_size)

    def facts(self) -> dict[str, Any]:
        return {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "attention": self._model.config._attn_implementation,
        }

    @torch.inference_mode()
    def generate(self, prompts: list[list[int]], output_lens: Sequence[int]) -> Call:
        """Raises: ValueError for lengths that differ, which it would have to pad."""
        if len({len(prompt) for prompt in prompts}) > 1 or len(set(output_lens)) > 1:
            raise ValueError("prompts or outputs of several lengths")
        ids = torch.tensor(prompts, device=self._device)
        output = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=output_lens[0],
            min_new_tokens=output_lens[0],
            do_sample=False,
        )
        return Call(output[:, ids.shape[1] :].tolist())


def create(settings: Settings) -> TransformersEngine:
    return TransformersEngine(settings)
