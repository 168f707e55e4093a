"""A tuning from end to end: scores, the choice, and what it measures on text it has not seen."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from engine.errors import EngineError
from engine.kv.formats import KV_FORMATS
from engine.kv.kv_config import config_text
from engine.quality.cached import CacheShape
from engine.quality.evaluation import Candidate, FormatResult, evaluate
from engine.quality.sensitivity import ScoreFile, measure
from engine.quality.tuning import Front, Point, describe, least_bits
from llmtop.paths import cache_dir
from llmtop.quality.front import Dot
from llmtop.quality.told import as_table

if TYPE_CHECKING:
    from engine.quality.subject import Subject
    from llmtop.quality.bar import Bar

CHOSEN = "tuned"


class Tuned(NamedTuple):
    """`config` is the text of a --kv-config; `results` are measured, the chosen one first."""

    title: str
    chosen: str
    config: str
    points: list[Point]
    results: list[FormatResult]
    dots: list[Dot]
    verdict: str

    def table(self, subject: Subject) -> str:
        return f"{as_table(subject, self.results)}\n\n{CHOSEN}: {self.chosen}"


def tune(
    subject: Subject, budget: float, num_sinks: int, scores_file: Path | None, bar: Bar
) -> Tuned:
    """Chosen on the even windows, measured on the odd ones. Raises: EngineError."""
    config, shape = subject.decoder.config, CacheShape(num_sinks=num_sinks)
    least = least_bits(config.head_dim, shape)
    if budget < least:
        raise EngineError(
            f"No formats have {budget:g} bits an element or fewer",
            f"The smallest have {least:.2f}.",
        )
    seen, unseen = subject.windows[::2], subject.windows[1::2]
    facts = f"{subject.describe()}, {num_sinks} sink pages, scores of version 1"
    path = scores_file or _default_scores(facts)
    file = ScoreFile(path, facts)
    measure(
        subject.decoder,
        subject.backend,
        shape,
        seen,
        file,
        bar.counting("measuring layers", "trials"),
    )
    front = Front(file.scores, config.num_layers, config.head_dim, shape)
    chosen = front.within(budget + 1e-9)
    assert chosen is not None, "the budget holds the smallest formats"
    points = [chosen, *(point for point in front.points() if point.bits != chosen.bits)]
    results = evaluate(
        subject.decoder,
        subject.backend,
        _candidates(points, config.num_layers, shape),
        unseen,
        bar.counting("measuring the choice", "windows"),
    )
    title = f"KV cache of {subject.model} by layer, {budget:g} bits"
    return Tuned(
        title,
        describe(chosen.formats),
        config_text(chosen.formats, _heading(subject, budget, chosen, results[0])),
        points,
        results,
        _dots(points, results),
        _verdict(results[0], results[len(points) :], budget),
    )


def _candidates(points: list[Point], num_layers: int, shape: CacheShape) -> list[Candidate]:
    names = [CHOSEN, *(f"front {point.bits:.2f}" for point in points[1:])]
    tuned = [Candidate(n, point.formats, shape) for n, point in zip(names, points, strict=True)]
    uniform = [
        Candidate.uniform(name, form, num_layers, shape)
        for name, form in KV_FORMATS.items()
        if form.is_packed
    ]
    return tuned + uniform


def _dots(points: list[Point], results: list[FormatResult]) -> list[Dot]:
    predicted = [Dot("predicted", "predicted", p.bits, p.predicted_kl) for p in points]
    measured = [
        Dot("measured" if i < len(points) else "uniform", r.name, r.bits, r.quality.kl_mean)
        for i, r in enumerate(results)
    ]
    return predicted + measured


def _verdict(chosen: FormatResult, uniform: list[FormatResult], budget: float) -> str:
    """Against the best named format that is as small."""
    fitting = [result for result in uniform if result.bits <= budget]
    own = f"KL {chosen.quality.kl_mean:.5f} at {chosen.bits:.2f} bits"
    if not fitting:
        return f"{own}; no named format is as small as {budget:g} bits"
    best = min(fitting, key=lambda result: result.quality.kl_mean)
    other = f"{best.name}, KL {best.quality.kl_mean:.5f} at {best.bits:.2f} bits"
    if chosen.quality.kl_mean < best.quality.kl_mean:
        return f"{own}: better than {other}, the best named format of at most {budget:g} bits"
    return f"{own}: no better than {other}; take that one"


def _heading(subject: Subject, budget: float, chosen: Point, result: FormatResult) -> str:
    return (
        f"llmtop tune --budget {budget:g}: {subject.describe()}\n"
        f"{chosen.bits:.3f} bits an element; KL predicted {chosen.predicted_kl:.5f}, measured"
        f" {result.quality.kl_mean:.5f} on windows that were not tuned on"
    )


def _default_scores(facts: str) -> Path:
    folder = cache_dir() / "tune"
    folder.mkdir(parents=True, exist_ok=True)
    key = blake2b(msgspec.json.encode(facts), digest_size=8).hexdigest()
    return folder / f"{key}.json"
