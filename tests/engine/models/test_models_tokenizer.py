"""Tokenizers built from GGUF metadata, bytes, and text that comes token by token."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HubTokenizer
from tokenizers import decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE

from engine.errors import ModelError
from engine.models.bytes import ByteVocabulary
from engine.models.detokenizer import Detokenizer
from engine.models.gguf_tokenizer import SPACE, build_tokenizer, merges_of_scores
from engine.models.template import ChatTemplate
from engine.models.tokenizer import Tokenizer
from engine.models.vocabulary import FileVocabulary, byte_alphabet

CORPUS = [
    "the cat sat on the mat, the thin cat",
    "naïve café 世界 世界",
    "1234 don't  DON'T\n\nx",
] * 3
TEXT = "the cat's naïve 世界 café 12345 don't\n\n  mat 🙂"


def gguf_file(**metadata):
    return SimpleNamespace(
        path="m.gguf", metadata={f"tokenizer.ggml.{k}": v for k, v in metadata.items()}
    )


def trained_byte_level():
    """(tokens, merges) as a GGUF file has them, all 256 bytes among the tokens."""
    tokenizer = HubTokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=sorted(byte_alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    import json

    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return tokens, [" ".join(pair) for pair in merges]


BYTE_TOKENS, BYTE_MERGES = trained_byte_level()


def byte_level_file(pre, **extra):
    tokens = [*BYTE_TOKENS, "<|start|>", "<|end|>", "<tool>"]
    types = [1] * len(BYTE_TOKENS) + [3, 3, 4]
    return gguf_file(
        model="gpt2", pre=pre, tokens=tokens, merges=BYTE_MERGES, token_type=types, **extra
    )


def sentencepiece_file(**extra):
    """Bytes, letters and a few words whose scores say what merges first."""
    words = ["▁t", "he", "▁the", "at", "▁c", "▁cat", "th", "▁", *"thecasmon' "]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *words]
    scores = [0.0] * 259 + [-float(i) for i in range(len(words))]
    types = [2, 3, 3] + [6] * 256 + [1] * len(words)
    return gguf_file(
        model="llama",
        tokens=pieces,
        scores=scores,
        token_type=types,
        unknown_token_id=0,
        bos_token_id=1,
        **extra,
    )


def wrapped(hub_tokenizer):
    import json

    decoder = json.loads(hub_tokenizer.to_str())["decoder"]
    vocabulary = FileVocabulary(hub_tokenizer, decoder)
    return Tokenizer(vocabulary, ChatTemplate(""), (), hub_tokenizer.get_vocab_size())


BYTE_LEVEL = wrapped(build_tokenizer(byte_level_file("smollm")))
PIECES = wrapped(build_tokenizer(sentencepiece_file()))
BYTES = Tokenizer(ByteVocabulary((256,)), ChatTemplate(""), (256,), 320)


@pytest.mark.parametrize("pre", ["default", "gpt-2", "smollm", "qwen2", "llama-bpe"])
def test_byte_level_text_comes_back_whole(pre):
    tokenizer = wrapped(build_tokenizer(byte_level_file(pre)))
    ids = tokenizer.encode("<|start|>" + TEXT + "<tool><|end|>")
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<|start|>" + TEXT + "<tool><|end|>"
    assert tokenizer.decode(ids) == TEXT + "<tool>"


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("smollm", ["Ġ", "1", "2", "3", "4", "Ġdon", "'t"]),
        ("gpt-2", ["Ġ1234", "Ġdon", "'t"]),
        ("qwen2", ["Ġ", "1", "2", "3", "4", "Ġdon", "'t"]),
        ("llama-bpe", ["Ġ", "123", "4", "Ġdon", "'t"]),
    ],
)
def test_each_family_splits_numbers_its_own_way(pre, pieces):
    built = build_tokenizer(byte_level_file(pre))
    assert [piece for piece, _ in built.pre_tokenizer.pre_tokenize_str(" 1234 don't")] == pieces


def test_begin_token_is_added_where_the_file_asks():
    start = len(BYTE_TOKENS)
    for pre, extra, expected in [
        ("llama-bpe", {"bos_token_id": start}, [start]),
        ("llama-bpe", {"bos_token_id": start, "add_bos_token": False}, []),
        ("smollm", {"bos_token_id": start}, []),
        ("smollm", {"bos_token_id": start, "add_bos_token": True}, [start]),
    ]:
        tokenizer = wrapped(build_tokenizer(byte_level_file(pre, **extra)))
        assert tokenizer.encode("") == expected
        assert tokenizer.encode("", add_special_tokens=False) == []


def test_sentencepiece_merges_best_score_first_and_falls_back_to_bytes():
    hub = build_tokenizer(sentencepiece_file())
    assert hub.encode("the cat").tokens == ["<s>", "▁the", "▁cat"]
    assert hub.encode("é", add_special_tokens=False).tokens == ["▁", "<0xC3>", "<0xA9>"]
    assert PIECES.decode(PIECES.encode("the cat é 🙂  cat")) == "the cat é 🙂  cat"
    bare = wrapped(build_tokenizer(sentencepiece_file(add_space_prefix=False)))
    assert bare.decode(bare.encode(" cat")) == " cat"


def test_merges_follow_scores_then_ids():
    vocabulary = {"a": 0, "b": 1, "ab": 2, "aba": 3, "ba": 4}
    merges = merges_of_scores(vocabulary, [0, 0, -1.0, -3.0, -2.0])
    assert merges == [("a", "b"), ("b", "a"), ("a", "ba"), ("ab", "a")]


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"model": "gpt2", "pre": "tekken", "tokens": ["a"], "merges": []}, "'tekken'"),
        ({"model": "t5", "tokens": ["a"]}, "'t5'"),
        ({"model": "gpt2"}, "no vocabulary"),
        ({"model": "llama", "tokens": ["a"]}, "without scores"),
        ({"model": "gpt2", "tokens": ["a"], "merges": ["aa"]}, "no pair"),
        ({"model": "gpt2", "tokens": ["a"], "merges": ["x y"]}, "m.gguf"),
    ],
)
def test_unknown_tokenizers_are_refused(metadata, words):
    with pytest.raises(ModelError, match=words):
        build_tokenizer(gguf_file(**metadata))


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, PIECES, BYTES], ids=["bpe", "pieces", "bytes"])
@given(data=st.data(), skip=st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_stream_of_ids_gives_the_text_of_all_ids(tokenizer, data, skip):
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 3), max_size=30))
    cuts = data.draw(st.lists(st.integers(0, len(ids)), max_size=4).map(sorted))
    whole = Detokenizer(tokenizer, (), skip)
    text = "".join(whole.push(ids[i:j]) for i, j in zip([0, *cuts], [*cuts, len(ids)], strict=True))
    assert text + whole.flush() == tokenizer.decode(ids, skip)
    single = Detokenizer(tokenizer, (), skip)
    assert "".join(single.push([i]) for i in ids) + single.flush() == tokenizer.decode(ids, skip)


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, PIECES, BYTES], ids=["bpe", "pieces", "bytes"])
@given(prompt=st.text(max_size=12), text=st.text(max_size=12))
@settings(max_examples=100, deadline=None)
def test_a_stream_continues_its_prompt(tokenizer, prompt, text):
    start, ids = tokenizer.encode(prompt), tokenizer.encode(text, add_special_tokens=False)
    stream = Detokenizer(tokenizer, start)
    streamed = "".join(stream.push([i]) for i in ids) + stream.flush()
    assert tokenizer.decode(start) + streamed == tokenizer.decode(start + ids)


@given(st.text(max_size=40))
@settings(max_examples=100, deadline=None)
def test_byte_level_decoding_is_the_librarys(text):
    ids = BYTE_LEVEL.encode(text)
    library = build_tokenizer(byte_level_file("smollm")) if not ids else LIBRARY
    assert BYTE_LEVEL.decode(ids) == library.decode(ids)


LIBRARY = build_tokenizer(byte_level_file("smollm"))


def test_partial_characters_wait_and_broken_ones_are_marked():
    stream = Detokenizer(BYTES)
    emoji = list("🙂".encode())
    assert [stream.push([byte]) for byte in emoji] == ["", "", "", "🙂"]
    assert stream.push(emoji[:2]) == ""
    assert stream.push([65]) == "\ufffdA"
    stream.push(emoji[:3])
    assert stream.flush() == "\ufffd"


def test_metaspace_decoders_strip_the_space_they_added():
    hub = HubTokenizer(BPE({"▁a": 0, "▁": 1, "a": 2}, [("▁", "a")]))
    hub.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    for scheme, expected in (("always", "a a"), ("never", " a a")):
        hub.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme=scheme)
        assert wrapped(hub).decode([0, 0]) == expected == hub.decode([0, 0])


def test_broken_files_are_one_line(tmp_path):
    path = tmp_path / "tokenizer.json"
    for text in ("", "{", "[]", '{"model": {"type": "Magic"}}', "\x00"):
        path.write_text(text)
        with pytest.raises(ModelError) as caught:
            FileVocabulary.load(path)
        assert str(path) in caught.value.message
        assert "\n" not in caught.value.message
    path.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        FileVocabulary.load(path)


def test_tokenizing_needs_no_torch():
    code = (
        "import sys, engine.models.tokenizer, engine.models.detokenizer, engine.models.registry,"
        " engine.models.memory; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
