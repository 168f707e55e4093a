"""The default model as we keep it: transformers and we agree on its numbers and its text."""

from __future__ import annotations

import pytest
import torch

from engine.cpu.backend import CpuBackend
from engine.models.tokenizer import Tokenizer
from engine.models.weights import load_decoder

TEXTS = [
    "The capital of France is Paris, and the capital of Italy is",
    "def fibonacci(n):\n    if n < 2:\n\t\treturn n  # 1234567890",
    "Grüße, 世界! 🙂🏳️‍🌈 don't  stop\r\n\n  naïve café",
    "<|im_start|>user\nhi<|im_end|>\n",
    "",
    " ",
]
MESSAGES = [
    [{"role": "user", "content": "Say hello."}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "Ünïcode <|im_end|>?"},
    ],
]


@pytest.fixture(scope="module")
def hub_tokenizer(smollm2):
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(smollm2.path)


@pytest.fixture(scope="module")
def tokenizer(smollm2):
    return Tokenizer.load(smollm2.path)


@pytest.mark.parametrize("text", TEXTS)
def test_ids_and_text_equal_transformers(text, tokenizer, hub_tokenizer):
    ids = tokenizer.encode(text)
    assert ids == hub_tokenizer(text).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    for skip in (True, False):
        assert tokenizer.decode(ids, skip) == hub_tokenizer.decode(ids, skip_special_tokens=skip)


@pytest.mark.parametrize("messages", MESSAGES)
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_chat_prompt_equals_transformers(messages, add_generation_prompt, tokenizer, hub_tokenizer):
    assert tokenizer.apply_chat_template(
        messages, add_generation_prompt
    ) == hub_tokenizer.apply_chat_template(
        messages, add_generation_prompt=add_generation_prompt, tokenize=False
    )


def test_end_of_text_ends_a_turn(tokenizer):
    assert [tokenizer.token_text(i) for i in tokenizer.eos_ids] == ["<|im_end|>"]
    assert tokenizer.vocab_size == 49_152


def test_logits_equal_transformers(smollm2, tokenizer, batch_of):
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(smollm2.path, dtype=torch.float32)
    ids = tokenizer.encode(TEXTS[0] + TEXTS[1])
    with torch.no_grad():
        expected = model(torch.tensor([ids])).logits[0]
    backend = CpuBackend(torch.float32, 1)
    decoder = load_decoder(smollm2, backend)
    pools = [backend.allocate_pool(8, 3, 16, 64) for _ in range(30)]
    whole = decoder.forward(batch_of([(ids, 0, [7, 2, 5])], 16), pools)
    assert (whole - expected).abs().max() < 1e-3
    last = decoder.forward(batch_of([(ids[-1:], len(ids) - 1, [7, 2, 5])], 16), pools)
    assert (last - expected[-1:]).abs().max() < 1e-3
