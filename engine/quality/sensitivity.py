"""How much each layer's K or V alone loses by being packed: the measurements of a tuning.

Source: as Li et al., KVTuner, 2025, per layer and per tensor; the measure is KL of the next token
to the model with an unpacked cache, not a task's score.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from engine.errors import EngineError
from engine.kv.formats import BF16, UNPACKED, CodeFormat, KVFormat
from engine.quality.cached import CachedModel, CacheShape
from engine.quality.divergence import Divergence, log_probs

if TYPE_CHECKING:
    import torch

    from engine.attention import Backend, Hidden
    from engine.models.decoder import Decoder

Part = Literal["key", "value"]
MAX_FILE_BYTES: Final = 16 << 20
# Tried for K and for V: as in the named formats.
KEYS: Final = tuple(CodeFormat(bits, axis="channel") for bits in (8, 4, 2))
VALUES: Final = (CodeFormat(8), CodeFormat(4), CodeFormat(2, group=32))
# Of the tokens, so many apart, the next one's distribution is compared: the head is half the work.
EVERY: Final = 4


class Trial(NamedTuple):
    """One tensor of one layer, packed alone."""

    layer: int
    part: Part
    form: CodeFormat

    @property
    def name(self) -> str:
        return f"{self.layer}/{self.part}/{self.form.name}"

    def formats(self, num_layers: int) -> list[KVFormat]:
        formats = [BF16] * num_layers
        key = self.form if self.part == "key" else UNPACKED
        value = self.form if self.part == "value" else UNPACKED
        formats[self.layer] = KVFormat(key, value)
        return formats


def all_trials(num_layers: int) -> list[Trial]:
    return [
        trial
        for layer in range(num_layers)
        for trial in (
            *(Trial(layer, "key", form) for form in KEYS),
            *(Trial(layer, "value", form) for form in VALUES),
        )
    ]


class Scores(msgspec.Struct):
    """Mean KL by trial's name, and what it was measured on: of anything else it says nothing."""

    subject: str
    kl: dict[str, float] = {}


class ScoreFile:
    """Scores that survive being interrupted: written whole after each trial.

    Raises: EngineError from the constructor if the file is of another subject, or no such file.
    """

    def __init__(self, path: Path, subject: str) -> None:
        self._path = path
        self.scores = Scores(subject)
        if path.exists():
            self.scores = _read(path)
        if self.scores.subject != subject:
            raise EngineError(
                f"{path} holds scores of another model, text or window",
                "Name another file with --scores, or remove it.",
            )

    def put(self, trial: Trial, kl: float) -> None:
        """Raises: EngineError if the file cannot be written."""
        self.scores.kl[trial.name] = kl
        part = self._path.with_name(self._path.name + ".part")
        try:
            part.write_bytes(msgspec.json.format(msgspec.json.encode(self.scores)))
            os.replace(part, self._path)
        except OSError as error:
            raise EngineError(
                f"{self._path} cannot be written: {error.strerror}", "--scores names another file."
            ) from error


def measure(
    decoder: Decoder,
    backend: Backend,
    shape: CacheShape,
    windows: Sequence[list[int]],
    file: ScoreFile,
    told: Callable[[int, int], None],
) -> None:
    """Scores every trial that `file` lacks: only from its own layer on is anything computed anew.

    Raises: EngineError if a head cannot be packed.
    """
    trials = all_trials(decoder.config.num_layers)
    known = sum(trial.name in file.scores.kl for trial in trials)
    told(known, len(trials))
    missing = [trial for trial in trials if trial.name not in file.scores.kl]
    if not missing:
        return
    length = len(windows[0]) - 1
    plain = CachedModel(
        decoder, backend, [BF16] * decoder.config.num_layers, shape, length, chunk=length
    )
    references = [_reference(plain, window) for window in windows]
    for trial in missing:
        formats = trial.formats(decoder.config.num_layers)
        model = CachedModel(decoder, backend, formats, shape, length, chunk=length)
        divergence = Divergence()
        for reference in references:
            batch = model.batch(reference.tokens, EVERY)
            logits = model.logits_from(trial.layer, reference.given[trial.layer], batch)
            divergence.add(reference.log_probs, logits, reference.targets)
            divergence.end_window()
        file.put(trial, divergence.quality().kl_mean)
        known += 1
        told(known, len(trials))


class _Reference(NamedTuple):
    """One window in the unpacked model: what each layer was given, and the log-probabilities after
    every EVERY-th token, with the tokens that came."""

    tokens: list[int]
    given: list[Hidden]
    log_probs: torch.Tensor
    targets: torch.Tensor


def _reference(model: CachedModel, window: list[int]) -> _Reference:
    import torch

    tokens = window[:-1]
    batch = model.batch(tokens, EVERY)
    given = model.states(batch)
    logits = model.logits_from(len(given) - 1, given[-1], batch)
    targets = torch.tensor(window[1:])[batch.logit_rows]
    return _Reference(tokens, given, log_probs(logits), targets)


def _read(path: Path) -> Scores:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise EngineError(f"{path} is larger than scores can be", "")
        return msgspec.json.decode(path.read_bytes(), type=Scores)
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror}", "") from error
    except msgspec.MsgspecError as error:
        raise EngineError(f"{path} holds no scores: {error}", "Name another file.") from error
