"""A few channels of K with a large mean, as Qwen2.5 has them, on the real default model.

Adding a constant to a channel of K, the same for all tokens, changes no softmax: the model computes
the same function, and only what packs it may notice. Source: the k_proj biases of Qwen2.5-7B.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine.cpu.backend import CpuBackend
from engine.kv.formats import BF16, KV_FORMATS, CodeFormat, KVFormat
from engine.models.tokenizer import Tokenizer
from engine.models.weights import load_decoder
from engine.quality.cached import CachedModel, CacheShape
from engine.quality.divergence import Divergence, log_probs
from engine.quality.text import default_text

NUM_TOKENS = 256
PER_TOKEN = KVFormat(CodeFormat(4, asym=False), CodeFormat(4))


class OutlierBackend(CpuBackend):
    """Adds `shift` to two channels of the K of every layer's pages."""

    shift = 0.0

    def rope_and_write(self, q, k, v, cos, sin, pool, plan):
        packing = plan.batch.packing
        unsealed = packing and replace(packing, seals=None)
        bare = replace(plan, batch=replace(plan.batch, packing=unsealed))
        out = super().rope_and_write(q, k, v, cos, sin, pool, bare)
        pages, offsets = plan.batch.slots // pool.k.shape[2], plan.batch.slots % pool.k.shape[2]
        pool.k[pages, :, offsets, 5] += self.shift
        pool.k[pages, :, offsets, 40] -= self.shift
        if packing is not None and packing.seals is not None:
            pool.seal(packing.seals)
        return out


@pytest.fixture(scope="module")
def kl(smollm2):
    """A function (format, shift) -> mean KL to the model with neither."""
    backend = OutlierBackend(torch.float32)
    decoder = load_decoder(smollm2, backend)
    tokens = Tokenizer.load(smollm2.path).encode(default_text().text[:4000])[: NUM_TOKENS + 1]

    def logits(form, shift):
        backend.shift = shift
        formats = [form] * decoder.config.num_layers
        model = CachedModel(decoder, backend, formats, CacheShape(num_sinks=0), NUM_TOKENS)
        return model.logits(tokens[:-1], 0)

    plain = log_probs(logits(BF16, 0.0))

    def measure(form, shift):
        divergence = Divergence()
        divergence.add(plain, logits(form, shift), torch.tensor(tokens[1:]))
        divergence.end_window()
        return divergence.quality().kl_mean

    return measure


def test_the_model_itself_does_not_notice(kl):
    assert kl(BF16, 60.0) < 1e-5


def test_four_bits_a_channel_do_not_notice_and_four_bits_a_token_fail(kl):
    still, moved = (kl(KV_FORMATS["int4"], shift) for shift in (0.0, 60.0))
    assert still < 0.03 and moved < 1.5 * still
    assert kl(PER_TOKEN, 60.0) > 10 * kl(PER_TOKEN, 0.0) > 10 * still
