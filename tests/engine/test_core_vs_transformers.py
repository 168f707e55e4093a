"""Greedy tokens of the default model in fp32 are transformers', however they are computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.attention import create_backend
from engine.config import EngineConfig, SamplingParams, SchedulerConfig
from engine.core import EngineCore
from engine.loading import Loaded
from engine.models.decoder import Decoder
from engine.models.folder import ModelFolder
from engine.models.progress import silent
from engine.models.tokenizer import Tokenizer
from engine.models.weights import load_decoder
from engine.request import EngineRequest
from engine.runner import ModelRunner
from profiler.events import AnyEvent, RequestPreempted, RequestScheduled, Step

NUM_TOKENS = 128
# Most begin alike, over two pages and more, so that prefixes are there to be found.
TALE = (
    "Once upon a time, in a small village at the foot of a high mountain, there lived an old "
    "clockmaker who had never been late in his life. One morning"
)
PROMPTS = (
    TALE,
    TALE + ", as the bells rang,",
    TALE + " his favourite clock stopped, and nobody in the village knew why. He",
    TALE + " he woke up and the sun stood already high. The",
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "The three laws of thermodynamics are as follows. First,",
    "Question: Why is the sky blue?\nAnswer:",
)


@pytest.fixture(scope="module")
def prompts(smollm2: ModelFolder) -> list[list[int]]:
    tokenizer = Tokenizer.load(smollm2.path)
    return [tokenizer.encode(text) for text in PROMPTS]


@pytest.fixture(scope="module")
def reference(smollm2: ModelFolder) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoModelForCausalLM.from_pretrained(
        smollm2.path, dtype=torch.float32, local_files_only=True
    )


@pytest.fixture(scope="module")
def decoder(smollm2: ModelFolder) -> Decoder:
    return load_decoder(smollm2, create_backend(torch.device("cpu"), torch.float32, 1), silent)


class RealCore:
    """A core of the default model in fp32, made anew for each run."""

    def __init__(self, folder: ModelFolder) -> None:
        self._folder = folder
        self.events: list[AnyEvent] = []

    def run(
        self,
        prompts: Sequence[list[int]],
        *,
        first_alone: bool = False,
        one_by_one: bool = False,
        num_tokens: int = NUM_TOKENS,
        repetition_penalty: float = 1.0,
        **settings: Any,
    ) -> list[list[int]]:
        scheduler = SchedulerConfig(
            max_num_batched_tokens=settings.pop("chunk", 2048), max_num_seqs=16
        )
        # The books are checked after every step: of all pages that memory has room for it takes
        # as long as the step.
        pages = settings.pop("num_gpu_blocks_override", 400)
        config = EngineConfig(
            dtype="float32",
            device="cpu",
            num_threads=1,
            num_gpu_blocks_override=pages,
            scheduler=scheduler,
            **settings,
        )
        self.events.clear()
        core = EngineCore(
            config,
            Path("nowhere"),
            self.events.append,
            silent,
            load=lambda c, _, p: Loaded(self._folder, ModelRunner(c, self._folder, p)),
        )
        params = SamplingParams(
            temperature=0.0,
            max_tokens=num_tokens,
            ignore_eos=True,
            repetition_penalty=repetition_penalty,
        )
        outputs: dict[int, list[int]] = {}
        for number, prompt in enumerate(prompts, 1):
            core.add(EngineRequest(number, "", tuple(prompt), params))
            outputs[number] = []
            if first_alone and number == 1:
                take(core, outputs)
            while one_by_one and core.has_work:
                take(core, outputs)
        while core.has_work:
            take(core, outputs)
        return list(outputs.values())

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def take(core: EngineCore, outputs: dict[int, list[int]]) -> None:
    for output in core.step():
        outputs[output.request] += output.token_ids
    core.check()


@pytest.fixture
def real_core(smollm2: ModelFolder, decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> RealCore:
    """Over weights that are read once for all tests here."""
    monkeypatch.setattr("engine.runner.load_decoder", lambda *_: decoder)
    return RealCore(smollm2)


def likeliest(reference: Any, prompts: list[list[int]], answers: list[list[int]]) -> Any:
    """What transformers holds for the likeliest token after each prompt and begun answer.

    If that is the answer everywhere, then the answer is what its greedy generation gives: token by
    token, each follows from the same ones before it. One pass instead of 128.
    """
    rows = [p + a[:-1] for p, a in zip(prompts, answers, strict=True)]
    longest = max(map(len, rows))
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    with torch.inference_mode():
        tokens = reference(padded).logits.argmax(-1).tolist()
    pairs = zip(tokens, prompts, rows, strict=True)
    return [row[len(prompt) - 1 : len(whole)] for row, prompt, whole in pairs]


@pytest.fixture(scope="module")
def first_run() -> dict[str, Any]:
    """The answers of the first test and what transformers says to them, kept for the others."""
    return {}


@pytest.fixture
def wanted(
    first_run: dict[str, Any], real_core: RealCore, reference: Any, prompts: list[list[int]]
) -> list[list[int]]:
    if not first_run:
        answers = real_core.run(prompts, first_alone=True)
        first_run["cached"] = [e.cached_tokens for e in real_core.of(RequestScheduled)]
        first_run["rows"] = [len(step.rows) for step in real_core.of(Step)]
        first_run["answers"] = answers
        first_run["wanted"] = likeliest(reference, prompts, answers)
    return first_run["wanted"]


def test_batched_with_prefix_cache(first_run, wanted, prompts):
    assert first_run["answers"] == wanted
    assert first_run["cached"][0] == 0
    assert all(count >= 32 for count in first_run["cached"][1:4])
    assert max(first_run["rows"]) == len(prompts)


def begun(answers: list[list[int]], num_tokens: int) -> list[list[int]]:
    return [answer[:num_tokens] for answer in answers]


def test_batched_in_chunks_of_64_without_prefix_cache(real_core, prompts, wanted):
    got = real_core.run(
        prompts, chunk=64, first_alone=True, num_tokens=32, enable_prefix_caching=False
    )
    assert got == begun(wanted, 32)
    assert {e.cached_tokens for e in real_core.of(RequestScheduled)} == {0}
    assert max(sum(r.prefill_tokens or 1 for r in s.rows) for s in real_core.of(Step)) == 64


def test_few_pages_and_chunks_of_16(real_core, prompts, wanted):
    few = {"num_gpu_blocks_override": 17, "max_model_len": 256}
    assert real_core.run(prompts, chunk=16, num_tokens=32, **few) == begun(wanted, 32)
    assert len(real_core.of(RequestPreempted)) >= 2
    assert max(sum(r.prefill_tokens or 1 for r in s.rows) for s in real_core.of(Step)) <= 16


def test_alone(real_core, prompts, wanted):
    assert real_core.run(prompts[3:4], num_tokens=32) == begun(wanted[3:4], 32)
    got = real_core.run(prompts, one_by_one=True, num_tokens=4, enable_prefix_caching=False)
    assert got == begun(wanted, 4)
    assert {len(step.rows) for step in real_core.of(Step)} == {1}


def test_penalties_whoever_else_runs(real_core, reference, prompts):
    """Of requests that are preempted and come back to other seats, too."""
    few = {"num_gpu_blocks_override": 7, "max_model_len": 112}
    answers = real_core.run(prompts[3:6], num_tokens=16, repetition_penalty=1.3, **few)
    assert real_core.of(RequestPreempted)
    for prompt, answer in zip(prompts[3:6], answers, strict=True):
        assert answer == likeliest_but_for(1.3, reference, prompt, answer)


def likeliest_but_for(
    penalty: float, reference: Any, prompt: list[int], answer: list[int]
) -> list[int]:
    """As `likeliest`, of one prompt, with transformers' own repetition penalty."""
    from transformers import RepetitionPenaltyLogitsProcessor

    process = RepetitionPenaltyLogitsProcessor(penalty)
    row = torch.tensor([prompt + answer[:-1]])
    with torch.inference_mode():
        logits = reference(row).logits
    ends = range(len(prompt), row.shape[1] + 1)
    return [int(process(row[:, :end], logits[:, end - 1]).argmax()) for end in ends]


@pytest.mark.slow
def test_each_alone_to_its_end(real_core, prompts, wanted):
    assert real_core.run(prompts, one_by_one=True) == wanted
    assert {len(step.rows) for step in real_core.of(Step)} == {1}


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [16, 64, 2048])
@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("pages", [40, 400])
def test_every_combination(real_core, prompts, wanted, chunk, prefix, pages):
    settings = {"chunk": chunk, "enable_prefix_caching": prefix, "num_gpu_blocks_override": pages}
    assert real_core.run(prompts, first_alone=True, max_model_len=256, **settings) == wanted
    for prompt, answer in zip(prompts, wanted, strict=True):
        assert real_core.run([prompt], max_model_len=256, **settings) == [answer]


@pytest.mark.slow
def test_transformers_own_generation(reference, prompts, wanted):
    longest = max(map(len, prompts))
    padded = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    with torch.inference_mode():
        answers = reference.generate(
            padded,
            attention_mask=mask,
            do_sample=False,
            min_new_tokens=NUM_TOKENS,
            max_new_tokens=NUM_TOKENS,
            eos_token_id=-1,
            pad_token_id=0,
        )
    assert [answer[longest:] for answer in answers.tolist()] == wanted
