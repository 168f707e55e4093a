"""A page in Prometheus' text format, as far as it can be read."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable
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


def parse(text: str, prefix: str, wanted: Container[str]) -> Page:
    """Reads the lines of the `wanted` names, which begin with `prefix`; NaN, infinities and blanks
    are left out.

    A page has thousands of lines that nobody asks for, and the parser takes 10 us for each.
    """
    own = (line for line in text.splitlines() if line.startswith(prefix) and line[:1] != "#")
    lines = [line for line in own if _name(line) in wanted][:MAX_SAMPLES]
    whole = _read("\n".join(lines) + "\n")
    parts = [whole] if whole is not None else [_read(line + "\n") for line in lines]
    samples: dict[str, list[Sample]] = {}
    for part in parts:
        for sample in part or ():
            samples.setdefault(sample.name, []).append(sample)
    return Page(samples, sum(part is None for part in parts))


def _read(text: str) -> list[Sample] | None:
    """The samples whose values say something; None if a line is damaged."""
    try:
        return list(_told(text_string_to_metric_families(text)))
    except (ValueError, IndexError, KeyError):
        return None


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
