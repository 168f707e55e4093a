"""The offline API over the fake model, and over a real decoder with random weights."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.config import EngineConfig, SamplingParams
from engine.errors import EngineError, InvalidRequestError
from engine.llm import LLM, engine_config


@pytest.fixture(scope="module")
def llm(tmp_path_factory) -> LLM:
    """A decoder of one's own size, so that the whole way is real and takes milliseconds."""
    return LLM(
        "random:tiny",
        cache_dir=tmp_path_factory.mktemp("cache"),
        dtype="float32",
        device="cpu",
        num_threads=1,
        num_gpu_blocks_override=64,
        max_num_seqs=8,
    )


GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)


def texts(llm: LLM, prompts, params) -> list[list[str]]:
    return [[s.text for s in o.samples] for o in llm.generate(prompts, params)]


def test_answers_come_in_the_order_of_the_prompts(llm):
    alone = [llm.generate(p, GREEDY)[0] for p in ("one", "a longer prompt", [72, 105])]
    together = llm.generate(["one", "a longer prompt", [72, 105]], GREEDY)
    assert [o.samples[0].token_ids for o in together] == [o.samples[0].token_ids for o in alone]
    assert [o.prompt for o in together] == ["one", "a longer prompt", None]
    assert all(o.finished and o.samples[0].finish_reason == "length" for o in together)
    assert all(len(o.samples[0].token_ids) == 12 for o in together)


def test_samples_of_a_seed_are_the_same_in_any_company(llm):
    params = SamplingParams(n=3, seed=11, max_tokens=10, ignore_eos=True, top_p=0.9)
    (first,) = texts(llm, "hello", params)
    others = [SamplingParams(max_tokens=5), params, SamplingParams(temperature=0.0)]
    second = texts(llm, ["x" * 40, "hello", "yy"], others)[1]
    assert first == second
    assert len(set(first)) == 3


def test_samples_that_share_their_prompt_s_pages_are_those_of_requests_alone(llm):
    prompt = "a prompt of more than two whole pages of sixteen tokens"
    params = SamplingParams(n=3, seed=11, max_tokens=10, ignore_eos=True, top_p=0.9)
    (output,) = llm.generate(prompt, params)
    alone = [msgspec.structs.replace(params, n=1, seed=11 + index) for index in range(3)]
    assert [s.text for s in output.samples] == [texts(llm, prompt, p)[0][0] for p in alone]


def test_seeds_nobody_gave_differ(llm):
    params = SamplingParams(n=4, max_tokens=10, ignore_eos=True)
    (samples,) = texts(llm, "hello", params)
    assert len(set(samples)) == 4


def test_a_stop_string_ends_the_text_and_the_request(llm):
    (whole,) = llm.generate("hello", GREEDY)
    text = whole.samples[0].text
    stop = text[4:6]
    params = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True, stop=(stop,))
    (cut,) = llm.generate("hello", params)
    assert cut.samples[0].text == text[: text.index(stop)]
    assert cut.samples[0].finish_reason == "stop"
    assert cut.samples[0].stop_reason == stop


def test_logprobs_belong_to_their_tokens(llm):
    params = SamplingParams(temperature=0.0, max_tokens=4, logprobs=3, prompt_logprobs=1)
    (output,) = llm.generate("hello", params)
    sample = output.samples[0]
    assert [e.token_id for e in sample.logprobs] == sample.token_ids
    assert all(e.rank == 1 and e.top[0] == (e.token_id, e.logprob) for e in sample.logprobs)
    assert all(len(e.top) == 3 for e in sample.logprobs)
    assert [e and e.token_id for e in output.prompt_logprobs] == [None, *b"ello"]


def test_prompt_logprobs_are_what_generation_says(llm):
    """Echo of prompt + answer gives the answer's own log-probabilities."""
    params = SamplingParams(temperature=0.0, max_tokens=6, logprobs=0, ignore_eos=True)
    (output,) = llm.generate("hello", params)
    sample = output.samples[0]
    whole = output.prompt_token_ids + sample.token_ids
    (echo,) = llm.generate([whole], SamplingParams(max_tokens=0, prompt_logprobs=0))
    assert echo.samples[0].token_ids == []
    got = [e.logprob for e in echo.prompt_logprobs[-6:]]
    assert got == pytest.approx([e.logprob for e in sample.logprobs], abs=1e-4)


def test_on_step_sees_the_text_grow(llm):
    seen: list[int] = []
    llm.generate("hello", GREEDY, lambda outputs: seen.append(len(outputs[0].samples[0].token_ids)))
    assert seen == list(range(1, 13))


def test_a_bad_prompt_leaves_nothing_behind(llm):
    with pytest.raises(InvalidRequestError):
        llm.generate(["good", []], GREEDY)
    with pytest.raises(InvalidRequestError):
        llm.generate(["good", "bad"], [GREEDY])
    with pytest.raises(InvalidRequestError):
        llm.generate("hello", SamplingParams(n=0))
    with pytest.raises(InvalidRequestError):
        llm.generate(["good", 5], GREEDY)
    assert llm.generate("good", GREEDY)[0].finished


def test_an_interrupted_run_can_be_followed_by_another(llm):
    def interrupt(outputs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        llm.generate(["one", "two"], GREEDY, interrupt)
    assert llm.generate("good", GREEDY)[0].finished


def test_chat_uses_the_template(llm):
    output = llm.chat([{"role": "user", "content": "hi"}], GREEDY)
    assert b"hi" in bytes(output.prompt_token_ids)


def test_a_model_that_is_too_large_is_refused_with_numbers(tmp_path):
    with pytest.raises(EngineError, match="GiB"):
        LLM("random:llama-3.1-8b", cache_dir=tmp_path, dtype="float32", device="cpu",
            kv_cache_memory_bytes=1 << 40)  # fmt: skip


def test_keywords_are_the_settings_by_name():
    config = engine_config("m", {"block_size": 32, "max_num_seqs": 3})
    assert isinstance(config, EngineConfig)
    assert (config.block_size, config.scheduler.max_num_seqs) == (32, 3)
    with pytest.raises(TypeError):
        engine_config("m", {"blocksize": 32})


def test_the_cache_moves_with_the_tools_home(monkeypatch):
    from engine.llm import _default_cache

    monkeypatch.setenv("LLMTOP_HOME", "/somewhere")
    assert _default_cache() == Path("/somewhere/cache")
