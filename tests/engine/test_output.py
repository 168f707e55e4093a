"""Stop strings and the text of samples."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import SamplingParams
from engine.models.bytes import ByteVocabulary
from engine.models.template import ChatTemplate
from engine.models.tokenizer import Tokenizer
from engine.output import OutputProcessor, sample_params
from engine.request import EngineRequest, TokenOutput
from engine.stop_strings import StopStrings

EOS = 256
BYTES = Tokenizer(ByteVocabulary((EOS,)), ChatTemplate(""), (EOS,), 300)


def passed_through(stops: tuple[str, ...], include: bool, pieces: list[str]) -> tuple[str, bool]:
    stop_strings = StopStrings(stops, include)
    text = ""
    for piece in pieces:
        more, matched = stop_strings.push(piece)
        text += more
        if matched is not None:
            return text, True
    return text + stop_strings.flush(), False


@given(
    st.text("ab", max_size=20),
    st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
    st.booleans(),
    st.lists(st.integers(0, 20), max_size=6),
)
def test_how_the_text_is_cut_does_not_matter(text, stops, include, cuts):
    edges = [0, *sorted(min(c, len(text)) for c in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    cut = passed_through(tuple(stops), include, pieces)
    assert cut == passed_through(tuple(stops), include, [text])
    ends = [text.find(s) + len(s) for s in stops if s in text]
    assert cut[1] == bool(ends)
    if not ends:
        assert cut[0] == text
    elif include:
        assert cut[0] == text[: min(ends)]


def test_nothing_of_a_stop_string_is_shown_early():
    stop_strings = StopStrings(("</end>",), False)
    shown = [stop_strings.push(piece).text for piece in ("one <", "/e", "nx", "</en", "d> two")]
    assert shown == ["one ", "", "</enx", "", ""]


def outputs_of(text: str, params: SamplingParams, *, finish: str | None = None) -> list:
    processor = OutputProcessor(BYTES)
    processor.add(EngineRequest(1, "a", (65,), params, eos_token_ids=(EOS,)))
    updates = []
    ids = BYTES.encode(text)
    for i, token in enumerate(ids):
        last = finish if i == len(ids) - 1 else None
        stop = token if last == "stop" else None
        updates += processor.process([TokenOutput(1, [token], finish_reason=last, stop_token=stop)])
    return updates


def test_a_stop_string_ends_the_sample_once():
    updates = outputs_of("hello world", SamplingParams(stop=("o w",)))
    assert "".join(u.text for u in updates) == "hell"
    assert len(updates) == 7
    assert updates[-1].finish_reason == "stop"
    assert updates[-1].stop_reason == "o w"
    assert updates[-1].ended_by_text


def test_a_stop_string_in_the_last_token_needs_no_word_to_the_core():
    (*_, last) = outputs_of("hello", SamplingParams(stop=("o",)), finish="length")
    assert (last.finish_reason, last.ended_by_text) == ("stop", False)


def test_stop_strings_wait_for_min_tokens():
    updates = outputs_of("xaxbxc", SamplingParams(stop=("x",), min_tokens=4))
    assert "".join(u.text for u in updates) == "xaxb"


def test_held_text_comes_out_at_the_end():
    updates = outputs_of("hello w", SamplingParams(stop=("o world",)), finish="length")
    assert "".join(u.text for u in updates) == "hello w"
    assert updates[-1].finish_reason == "length"


@pytest.mark.parametrize(("include", "text"), [(False, "ab"), (True, "abc")])
def test_a_stop_token_is_shown_only_on_request(include, text):
    params = SamplingParams(include_stop_str_in_output=include)
    updates = outputs_of("abc", params, finish="stop")
    assert "".join(u.text for u in updates) == text
    assert updates[-1].token_ids == BYTES.encode("c")
    assert updates[-1].stop_reason == BYTES.encode("c")[0]


def test_the_end_of_text_token_is_no_stop_reason():
    processor = OutputProcessor(BYTES)
    processor.add(EngineRequest(1, "a", (65,), SamplingParams(), eos_token_ids=(EOS,)))
    ending = TokenOutput(1, [EOS], finish_reason="stop", stop_token=EOS)
    (update,) = processor.process([ending])
    assert (update.text, update.stop_reason) == ("", None)


def test_a_character_over_several_tokens_is_shown_whole():
    updates = outputs_of("aé€", SamplingParams(), finish="length")
    assert [u.text for u in updates] == ["a", "", "é", "", "", "€"]


def test_dropped_requests_are_ignored():
    processor = OutputProcessor(BYTES)
    processor.add(EngineRequest(1, "a", (65,), SamplingParams()))
    processor.drop(1)
    assert processor.process([TokenOutput(1, [66])]) == []


def test_samples_of_one_request_have_their_own_seeds():
    samples = sample_params(SamplingParams(n=3, seed=5, prompt_logprobs=1))
    assert [s.seed for s in samples] == [5, 6, 7]
    assert {s.n for s in samples} == {1}
    assert [s.prompt_logprobs for s in samples] == [1, None, None]
    assert [s.seed for s in sample_params(SamplingParams(n=2))] == [None, None]
