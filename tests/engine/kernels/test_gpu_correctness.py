"""The default model in bf16 beside transformers in bf16, both held to transformers in fp32.

In bf16 two right programs differ, so the rule is: fp32 on the same weights is the truth, and what
transformers itself loses in bf16, measured on the same tokens, is what we may lose. Here the device
is the CPU, which shows that the harness works; `pytest -m gpu` asks the same of the kernels.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from engine.attention import create_backend
from engine.config import SamplingParams
from engine.llm import LLM
from engine.models.folder import ModelFolder
from engine.models.tokenizer import Tokenizer
from engine.models.weights import load_decoder

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
TALE = (
    "Once upon a time, in a small village at the foot of a high mountain, there lived an old "
    "clockmaker who had never been late in his life. One morning"
)
PROMPTS = (
    "The capital of France is",
    TALE,
    "def fibonacci(n):\n    ",
    TALE + " his favourite clock stopped, and nobody in the village knew why. He",
    "Question: Why is the sky blue?\nAnswer:",
    " ".join(f"{number} is followed by {number + 1}." for number in range(90)) + " 90 is",
)
# Largest logits of a row, in fp32, on which bf16's noise is measured.
NUM_LEADERS = 16
BLOCK_SIZE = 16


class Transformers:
    """The same weights twice: in bf16 as a user runs them, and their exact fp32 computation."""

    def __init__(self, folder: ModelFolder, device: torch.device) -> None:
        transformers = pytest.importorskip("transformers")
        self._device = device
        self._bf16 = transformers.AutoModelForCausalLM.from_pretrained(
            folder.path, dtype=torch.bfloat16, local_files_only=True
        ).to(device)
        self._fp32 = copy.deepcopy(self._bf16).float()
        self._known: dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]] = {}

    def logits(self, token_ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """(bf16's, fp32's) after every token, (T, V) fp32 on the CPU; computed once."""
        key = tuple(token_ids)
        if key not in self._known:
            ids = torch.tensor([token_ids], device=self._device)
            with torch.inference_mode():
                both = [model(ids).logits[0].float().cpu() for model in (self._bf16, self._fp32)]
            self._known[key] = both[0], both[1]
        return self._known[key]


def noise_of(rounded: torch.Tensor, exact: torch.Tensor) -> float:
    """How far bf16 puts one of the leading logits off, root mean square."""
    leaders = exact.topk(NUM_LEADERS, -1).indices
    return float((rounded.gather(1, leaders) - exact.gather(1, leaders)).square().mean().sqrt())


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture(scope="module")
def prompts(smollm2: ModelFolder, device: torch.device) -> list[list[int]]:
    tokenizer = Tokenizer.load(smollm2.path)
    return [tokenizer.encode(text) for text in PROMPTS[: None if device.type == "cuda" else 2]]


@pytest.fixture(scope="module")
def transformers_model(smollm2: ModelFolder, device: torch.device) -> Iterator[Transformers]:
    yield Transformers(smollm2, device)
    gc.collect()


def test_logits_are_as_close_to_fp32_as_transformers_own(
    smollm2: ModelFolder,
    device: torch.device,
    prompts: list[list[int]],
    transformers_model: Transformers,
    batch_of: Any,
    to_device: Any,
) -> None:
    backend = create_backend(device, torch.bfloat16, 1)
    decoder, config = load_decoder(smollm2, backend), smollm2.config
    lens = [len(prompt) for prompt in prompts]
    batch, num_pages = batch_of(lens, lens, BLOCK_SIZE, 0)
    batch.token_ids.copy_(torch.tensor([token for prompt in prompts for token in prompt]))
    every_row = {"logit_rows": torch.arange(sum(lens))}
    fields = {name: getattr(batch, name) for name in type(batch).__slots__} | every_row
    pools = [
        backend.allocate_pool(num_pages, config.num_kv_heads, BLOCK_SIZE, config.head_dim)
        for _ in range(config.num_layers)
    ]
    logits = decoder.forward(to_device(type(batch)(**fields), device), pools).float().cpu()
    errors, noises = [], []
    for prompt, ours in zip(prompts, logits.split(lens), strict=True):
        rounded, exact = transformers_model.logits(prompt)
        errors.append([float((x - exact).norm() / exact.norm()) for x in (ours, rounded)])
        noises.append([noise_of(x, exact) for x in (ours, rounded)])
    # Over all prompts: on one of 5 tokens chance alone makes either 1.6 times the other (H200).
    for ours, theirs in (zip(*errors, strict=True), zip(*noises, strict=True)):
        assert sum(ours) <= 1.25 * sum(theirs)


# On the CPU two short prompts fit into one chunk and few pages: all three would be the same.
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="whole prompts"),
        pytest.param(
            {"max_num_batched_tokens": 64}, id="chunks beside decoding", marks=pytest.mark.gpu
        ),
        pytest.param({"num_gpu_blocks_override": 70}, id="few pages", marks=pytest.mark.gpu),
    ],
)
def test_greedy_tokens_are_those_of_transformers_or_tie_with_them(
    settings: dict[str, Any],
    smollm2: ModelFolder,
    device: torch.device,
    prompts: list[list[int]],
    transformers_model: Transformers,
) -> None:
    """Twice, so that the second answers start from cached prefixes."""
    num_tokens = 32 if device.type == "cuda" else 6
    llm = LLM(
        str(smollm2.path),
        dtype="bfloat16",
        device=device.type,
        max_model_len=1024,
        gpu_memory_utilization=0.5,
        num_threads=1,
        **settings,
    )
    params = SamplingParams(temperature=0.0, max_tokens=num_tokens, ignore_eos=True)
    for _ in range(2):
        for prompt, output in zip(prompts, llm.generate(prompts, params), strict=True):
            ours = output.samples[0].token_ids
            assert len(ours) == num_tokens
            rounded, exact = (
                x[len(prompt) - 1 : -1] for x in transformers_model.logits(prompt + ours)
            )
            # Between two tokens that bf16 can confuse lie a few times what it puts each off.
            noise = noise_of(rounded, exact)
            assert noise < 0.5, "bf16 is not this noisy: these are not the same weights"
            margins = exact.max(-1).values - exact[range(num_tokens), ours]
            assert float(margins.max()) <= 3 * noise
            agreeing = (exact.argmax(-1) == torch.tensor(ours)).float().mean()
            assert float(agreeing) >= 0.75
