"""The choice is the best there is, measurements survive being interrupted, and none is mixed up."""

from __future__ import annotations

import itertools
import random

import pytest
import torch

from engine.errors import EngineError
from engine.kv.formats import BF16, KV_FORMATS
from engine.quality.cached import CachedModel, CacheShape
from engine.quality.knapsack import Knapsack, Option
from engine.quality.sensitivity import ScoreFile, all_trials, measure
from engine.quality.tuning import Front, describe


def by_trying_all(layers, num_bytes):
    """The least loss, from every combination there is."""
    fitting = [
        sum(option.loss for option in picks)
        for picks in itertools.product(*layers)
        if sum(option.num_bytes for option in picks) <= num_bytes
    ]
    return min(fitting, default=None)


@pytest.mark.parametrize("seed", range(6))
def test_no_combination_is_better(seed):
    draw = random.Random(seed)
    layers = [
        [Option(16 * draw.randint(1, 9), draw.random()) for _ in range(draw.randint(1, 4))]
        for _ in range(4)
    ]
    knapsack = Knapsack(layers)
    for num_bytes in range(0, 700, 24):
        best, choice = by_trying_all(layers, num_bytes), knapsack.within(num_bytes)
        if best is None:
            assert choice is None and num_bytes < knapsack.least_bytes
            continue
        picked = [layer[pick] for layer, pick in zip(layers, choice.picks, strict=True)]
        assert choice.loss == pytest.approx(best)
        assert sum(option.loss for option in picked) == pytest.approx(choice.loss)
        assert sum(option.num_bytes for option in picked) == choice.num_bytes <= num_bytes


def scored(path, tiny, stop_after=None):
    file, done = ScoreFile(path, "tiny"), []

    def told(count, total):
        done.append(count)
        if stop_after is not None and count >= stop_after:
            raise KeyboardInterrupt

    measure(tiny.decoder, tiny.backend, CacheShape(num_sinks=0), tiny.windows[:1], file, told)
    return file, done


def test_an_interrupted_measurement_goes_on_where_it_was(tiny, tmp_path):
    path = tmp_path / "scores.json"
    with pytest.raises(KeyboardInterrupt):
        scored(path, tiny, stop_after=5)
    assert len(ScoreFile(path, "tiny").scores.kl) == 5
    file, done = scored(path, tiny)
    assert done[0] == 5 and done[-1] == len(all_trials(2)) == 12
    whole, _ = scored(tmp_path / "other.json", tiny)
    assert file.scores.kl == whole.scores.kl
    assert all(kl > 0 for kl in whole.scores.kl.values())


def test_a_pass_from_a_layer_on_is_the_whole_pass(tiny):
    formats = [BF16, KV_FORMATS["int4"]]
    model = CachedModel(tiny.decoder, tiny.backend, formats, CacheShape(num_sinks=0), 260, 260)
    batch = model.batch(tiny.windows[0][:260], every=3)
    given = model.states(batch)
    assert len(given) == 2
    before = [state.residual.clone() for state in given]
    whole = model.logits(tiny.windows[0][:260], 0)[2::3]
    for layer in (0, 1):
        assert torch.equal(model.logits_from(layer, given[layer], batch), whole)
    assert all(torch.equal(a, b.residual) for a, b in zip(before, given, strict=True))


def test_scores_of_something_else_are_refused(tmp_path):
    path = tmp_path / "scores.json"
    file = ScoreFile(path, "one model")
    file.put(all_trials(1)[0], 0.5)
    with pytest.raises(EngineError, match="another model"):
        ScoreFile(path, "another model")
    with pytest.raises(EngineError, match="cannot be written"):
        ScoreFile(tmp_path / "none" / "scores.json", "one model").put(all_trials(1)[0], 0.5)
    path.write_text("{")
    with pytest.raises(EngineError, match="no scores"):
        ScoreFile(path, "one model")


def test_the_front_spends_bits_where_they_matter(tmp_path):
    """Layer 1 loses a hundred times what layer 0 loses, K ten times what V does."""
    file = ScoreFile(tmp_path / "scores.json", "made up")
    for trial in all_trials(2):
        weight = (100 if trial.layer else 1) * (10 if trial.part == "key" else 1)
        file.scores.kl[trial.name] = weight * {8: 0.001, 4: 0.01, 2: 0.1}[trial.form.nbits]
    front = Front(file.scores, 2, 64, CacheShape())
    assert (front.least_bits, front.most_bits) == (2.75, 8.5)
    point = front.within(5)
    assert point.bits <= 5
    assert point.formats[1].key.nbits > point.formats[0].key.nbits
    assert point.formats[1].key.nbits >= point.formats[1].value.nbits
    assert front.within(2) is None
    points = front.points()
    assert [p.bits for p in points] == sorted({p.bits for p in points})
    losses = [p.predicted_kl for p in points]
    assert losses == sorted(losses, reverse=True)
    assert describe(points[0].formats) == "2 int2"
