import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmtop.errors import LoadError
from llmtop.load.prompts import PromptWriter, Vocabulary, measure_vocabulary
from llmtop.load.spec import Lengths, LoadSpec, demo_spec
from profiler.folds.quantiles import Quantiles

URL = "http://127.0.0.1:1"
WORDS = tuple(f"w{n}" for n in range(50))
EXACT = Vocabulary(WORDS, 1.0, 0, exact=True, counted=True)


@pytest.mark.parametrize("text", ["128", "64-256", "32,128,512-1024"])
def test_lengths_print_as_they_are_written(text: str) -> None:
    assert str(Lengths.parse(text)) == text


@pytest.mark.parametrize("text", ["", "x", "0", "5-", "9-3", "-4", "1,,2", "1.5"])
def test_lengths_refuse_what_is_none(text: str) -> None:
    with pytest.raises(LoadError):
        Lengths.parse(text)


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 500)), min_size=1), st.integers())
def test_a_drawn_length_lies_in_a_span(spans: list[tuple[int, int]], seed: int) -> None:
    lengths = Lengths.parse(",".join(f"{low}-{low + more}" for low, more in spans))
    drawn = lengths.draw(random.Random(seed))
    assert any(span.low <= drawn <= span.high for span in lengths.spans)


def test_a_spec_refuses_what_cannot_run() -> None:
    for wrong in ({"concurrency": 0}, {"rate_per_s": 0.0}, {"shared_prefix_share": 1.5}):
        with pytest.raises(LoadError):
            LoadSpec(URL, **wrong)


def test_the_root_is_found_under_a_v1_address() -> None:
    assert LoadSpec("http://h:1/v1/").root_url == "http://h:1"


def test_the_same_seed_gives_the_same_prompts_in_any_order() -> None:
    one, two = (PromptWriter(demo_spec(URL, seed=7), EXACT) for _ in range(2))
    forward = [one.write(n) for n in range(20)]
    assert [two.write(n) for n in reversed(range(20))] == forward[::-1]
    assert [PromptWriter(demo_spec(URL, seed=8), EXACT).write(n) for n in range(20)] != forward


def test_a_prompt_has_the_wanted_length_and_the_stated_share_begins_alike() -> None:
    spec = LoadSpec(
        URL,
        prompt_tokens=Lengths.parse("100"),
        shared_prefix_share=0.25,
        shared_prefix_tokens=40,
    )
    writer = PromptWriter(spec, EXACT)
    prompts = [writer.write(n).text.split() for n in range(2000)]
    assert {len(p) for p in prompts} == {100}
    prefix = writer._prefix
    share = sum(p[:40] == prefix for p in prompts) / len(prompts)
    assert 0.22 < share < 0.28


def test_a_shared_prefix_never_fills_a_whole_prompt() -> None:
    spec = LoadSpec(
        URL, prompt_tokens=Lengths.parse("10"), shared_prefix_share=1.0, shared_prefix_tokens=40
    )
    writer = PromptWriter(spec, EXACT)
    assert len({writer.write(n).text for n in range(50)}) > 25


def test_a_warm_up_never_has_a_measured_prompt() -> None:
    writer = PromptWriter(LoadSpec(URL), EXACT)
    measured = {writer.write(n).text for n in range(50)}
    assert not measured & {writer.write(n, warmup=True).text for n in range(50)}


async def test_words_of_several_tokens_are_found_and_left_out() -> None:
    async def count(text: str) -> int:
        return 1 + sum(1 + word.startswith("b") for word in text.split())

    vocabulary = await measure_vocabulary(count)
    assert vocabulary.exact
    assert vocabulary.base_tokens == 1
    assert not any(word.startswith("b") for word in vocabulary.words)
    assert vocabulary.num_words(100) == 99


async def test_a_byte_tokenizer_still_gives_the_wanted_length() -> None:
    async def count(text: str) -> int:
        return len(text)

    vocabulary = await measure_vocabulary(count)
    writer = PromptWriter(LoadSpec(URL, prompt_tokens=Lengths.parse("1000")), vocabulary)
    lengths = [len(writer.write(n).text) for n in range(50)]
    assert not vocabulary.exact
    assert 900 < sum(lengths) / len(lengths) < 1100


async def test_without_a_tokenizer_a_word_is_a_token() -> None:
    async def count(text: str) -> None:
        return None

    vocabulary = await measure_vocabulary(count)
    assert not vocabulary.counted
    assert vocabulary.num_words(12) == 12


def test_quantiles_interpolate_and_p99_needs_a_hundred() -> None:
    few, many = Quantiles.of([4.0, 1.0, 3.0, 2.0]), Quantiles.of(list(range(101)))
    assert few is not None and many is not None
    assert (few.p50, few.mean, few.max, few.p99) == (2.5, 2.5, 4.0, None)
    assert (many.p50, many.p90, many.p99) == (50.0, 90.0, 99.0)
    assert Quantiles.of([]) is None
