"""What is measured is what decoding sees, and a cache that is not packed loses nothing."""

from __future__ import annotations

import pytest
import torch

from engine.errors import EngineError
from engine.kv.formats import BF16, KV_FORMATS, CodeFormat, KVFormat
from engine.quality.cached import CachedModel, CacheShape
from engine.quality.divergence import Divergence
from engine.quality.evaluation import Candidate, evaluate
from engine.quality.text import Text, default_text, read_text, token_windows


def read(tiny, form, chunks):
    """Logits of the first window, cut in these lengths."""
    window = tiny.windows[0]
    model = CachedModel(
        tiny.decoder, tiny.backend, [form] * 2, CacheShape(), sum(chunks), max(chunks)
    )
    parts, start = [], 0
    for length in chunks:
        parts.append(model.logits(window[start : start + length], start))
        start += length
    return torch.cat(parts)


@pytest.mark.parametrize("name", ["auto", "fp8", "int4", "k4v2"])
def test_a_pass_over_many_tokens_is_decoding_them_one_by_one(tiny, name):
    form = KV_FORMATS[name]
    whole = read(tiny, form, [200])
    assert torch.allclose(read(tiny, form, [1] * 200), whole, atol=1e-4)
    assert torch.allclose(read(tiny, form, [70, 1, 129]), whole, atol=1e-4)


def test_recent_pages_are_seen_as_they_were_written(tiny):
    """All of them: nothing is lost. One: less than with none, and tokens of the first two pages,
    which see no packed page, lose nothing."""
    token_ids = tiny.windows[0][:200]

    def logits(name, **shape):
        formats = [KV_FORMATS[name]] * 2
        shape = CacheShape(num_sinks=0, **shape)
        return CachedModel(tiny.decoder, tiny.backend, formats, shape, 200).logits(token_ids, 0)

    exact, none, one = logits("auto"), logits("int2"), logits("int2", num_recent=1)
    assert torch.allclose(logits("int2", num_recent=3), exact, atol=1e-4)
    assert torch.allclose(one[:128], exact[:128], atol=1e-4)
    assert (none[128:] - exact[128:]).norm() > (one[128:] - exact[128:]).norm() > 0.01


def test_an_unpacked_cache_loses_nothing_and_fewer_bits_lose_more(tiny):
    names = ("auto", "int8", "int4", "int2")
    candidates = [
        Candidate(name, [KV_FORMATS[name]] * 2, CacheShape(num_sinks=0)) for name in names
    ]
    told = []
    results = evaluate(
        tiny.decoder, tiny.backend, candidates, tiny.windows, lambda *at: told.append(at)
    )
    plain, *packed = [result.quality for result in results]
    assert (plain.kl_mean, plain.delta_nll, plain.delta_nll_se, plain.top1) == (0, 0, 0, 1)
    assert 0 < packed[0].kl_mean < packed[1].kl_mean < packed[2].kl_mean
    assert all(quality.num_tokens == 2 * 260 for quality in packed)
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert [result.bits for result in results] == [16, 8.5, 4.5, 2.75]
    # 260 tokens: 4 packed pages, and 4 tokens in an open one.
    assert results[2].held_bits == pytest.approx((4.5 * 256 + 16 * 4) / 260)


def test_what_cannot_be_packed_is_refused_before_it_is_read(tiny):
    bad = Candidate("bad", [KVFormat(CodeFormat(4), CodeFormat(4, group=48))] * 2)
    with pytest.raises(EngineError, match="Groups of 48"):
        evaluate(tiny.decoder, tiny.backend, [bad], tiny.windows, lambda *_: None)


def test_divergence_of_known_distributions():
    p, q = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[0.25, 0.5, 0.25]])
    divergence = Divergence()
    divergence.add(p.log(), q.log(), torch.tensor([1]))
    divergence.end_window()
    divergence.add(p.log(), p.log(), torch.tensor([0]))
    divergence.end_window()
    quality = divergence.quality()
    half = torch.tensor(2.0).log().item()
    # KL = 0.5 ln 2 + 0.25 ln 0.5, and the token that came became twice as likely.
    assert quality.kl_mean == pytest.approx(0.25 * half / 2)
    assert quality.delta_nll == pytest.approx(-half / 2)
    assert quality.delta_nll_se == pytest.approx(half / 2)
    assert quality.top1 == 0.5
    assert quality.perplexity == pytest.approx(2**0.5 * 2**0.5)


class Bytes:
    def encode(self, text):
        return list(text.encode())


def test_windows_are_disjoint_and_spread_over_the_text():
    text = Text("t", "", "".join(chr(48 + i % 60) for i in range(1000)))
    windows = token_windows(text, Bytes(), 100, 3)
    assert [len(window) for window in windows] == [101] * 3
    assert windows[1] == list(text.text[333:434].encode())
    with pytest.raises(EngineError, match="1000 tokens"):
        token_windows(text, Bytes(), 500, 2)


def test_texts_are_named_exactly(tmp_path):
    assert len(default_text().sha256) == 64 and "Python 3" in default_text().name
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(EngineError, match="UTF-8"):
        read_text(tmp_path / "a.txt")
    with pytest.raises(EngineError, match="cannot be read"):
        read_text(tmp_path / "none.txt")


def test_formats_that_keep_everything_are_no_plan(tiny):
    assert CachedModel(tiny.decoder, tiny.backend, [BF16] * 2, CacheShape(), 64).packed is None
