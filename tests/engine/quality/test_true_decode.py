"""The perplexity of a pass is the perplexity of decoding, on the real default model."""

from __future__ import annotations

import pytest
import torch

from engine.cpu.backend import CpuBackend
from engine.kv.formats import KV_FORMATS
from engine.models.tokenizer import Tokenizer
from engine.models.weights import load_decoder
from engine.quality.cached import CachedModel, CacheShape
from engine.quality.text import default_text

NUM_TOKENS = 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["int4", "int8"])
def test_a_thousand_tokens_one_by_one(smollm2, name):
    backend = CpuBackend(torch.float32)
    decoder = load_decoder(smollm2, backend)
    tokens = Tokenizer.load(smollm2.path).encode(default_text().text[:12_000])[: NUM_TOKENS + 1]
    formats, targets = [KV_FORMATS[name]] * decoder.config.num_layers, torch.tensor(tokens[1:])

    def nll(chunk):
        model = CachedModel(decoder, backend, formats, CacheShape(), NUM_TOKENS, chunk)
        parts = [
            model.logits(tokens[start : start + chunk], start)
            for start in range(0, NUM_TOKENS, chunk)
        ]
        log_probs = torch.cat(parts).log_softmax(-1)
        return -log_probs[torch.arange(NUM_TOKENS), targets].mean().item()

    assert nll(1) == pytest.approx(nll(250), abs=1e-3)
