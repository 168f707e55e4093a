"""A page in Prometheus' text format, as far as it can be read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

MAX_PAGE_BYTES: Final = 16 << 20
MAX_SAMPLES: Final = 20_000
# What DCGM writes for a value that it does not have.
_BLANK: Final = 9223372036854775794


class Sample(NamedTuple):
    name: str
    labels: dict[str, str]
    value: float


class Page(NamedTuple):
    """The samples of each name, those of a histogram under their own (`..._bucket`); `num_bad`
    counts lines that could not be read."""

    samples: dict[str, list[Sample]]
    num_bad: int


def names_of(text: str) -> set[str]:
    """Of all samples of a page, whether the rest of their lines can be read or not."""
    return {_name(line) for line in text.splitlines() if line and line[0] != "#"}


def parse(text: str, wanted: Callable[[str], bool]) -> Page:
    """Reads the lines of the names that are `wanted`; NaN, infinities and blanks are left out.

    A page has thousands of lines that nobody asks for, and the parser takes 10 us for each.
    """
    lines = [s for s in text.splitlines() if s and s[0] != "#" and wanted(_name(s))]
    samples: dict[str, list[Sample]] = {}
    num_bad = 0
    for line in lines[:MAX_SAMPLES]:
        found = _read(line)
        num_bad += found is None
        for sample in found or ():
            samples.setdefault(sample.name, []).append(sample)
    return Page(samples, num_bad)


def _read(line: str) -> list[Sample] | None:
    """The line's sample, [] where its value says nothing; None if it is damaged."""
    try:
        families = list(text_string_to_metric_families(line + "\n"))
    except (ValueError, IndexError, KeyError):
        return None
    return list(_told(families))


def _told(families: Iterable[object]) -> Iterable[Sample]:
    for family in families:
        for sample in family.samples:  # type: ignore[attr-defined]
            if math.isfinite(sample.value) and sample.value != _BLANK:
                yield Sample(sample.name, sample.labels, sample.value)


def _name(line: str) -> str:
    end = min(
        (at for at in (line.find("{"), line.find(" "), line.find("\t")) if at >= 0), default=0
    )
    return line[:end]
