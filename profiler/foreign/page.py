"""A page in Prometheus' text format, as far as it can be read."""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

MAX_PAGE_BYTES: Final = 16 << 20
MAX_SAMPLES: Final = 20_000
# What DCGM writes for a value that it does not have.
_BLANK: Final = float(9223372036854775794)


class Sample(NamedTuple):
    name: str
    labels: dict[str, str]
    value: float


class Page(NamedTuple):
    """The samples of each name, those of a histogram under their own (`..._bucket`); `num_bad`
    counts lines that could not be read."""

    samples: dict[str, list[Sample]]
    num_bad: int


# Stands for every series that nobody wants.
_UNWANTED: Final = Sample("", {}, math.nan)


def names_of(text: str) -> set[str]:
    """Of all samples of a page, whether the rest of their lines can be read or not."""
    return {_name(line) for line in text.split("\n") if line and line[0] != "#"}


class PageReader:
    """Reads the lines of the `wanted` names, which begin with `prefix`; NaN, infinities and blanks
    are left out.

    A server's next page has the same series with other values. The parser takes 40 us for a line,
    so it is shown each series once, and what it made of that is kept, with the newest value, by the
    text before the value. What has another form goes to the parser each time: a timestamp, a tab,
    damage.
    """

    def __init__(self, prefix: str, wanted: Container[str]) -> None:
        self._prefix = prefix
        self._wanted = wanted
        self._known: dict[str, Sample] = {}  # by what stands between prefix and value

    def read(self, text: str) -> Page:
        if len(self._known) > MAX_SAMPLES:
            self._known.clear()
        samples: dict[str, list[Sample]] = {}
        num_read = num_bad = 0
        # Each piece is what follows the prefix, and then the lines of others until the next one: to
        # look at those one by one took half of the time for a page that has many.
        for piece in f"\n{text}".split(f"\n{self._prefix}")[1:]:
            rest = piece.partition("\n")[0]
            told, _, value = rest.rpartition(" ")
            known = self._known.get(told)
            if known is _UNWANTED:
                continue
            number = None if known is None else _number(value)
            if known is None or number is None:
                if not self._is_wanted(rest, told):
                    continue
                sample = self._parsed(rest, told, value)
            elif number == known.value:
                sample = known
            else:
                sample = self._known[told] = Sample(known.name, known.labels, number)
            num_read += 1
            if num_read > MAX_SAMPLES:
                break
            if sample is None:
                num_bad += 1
            elif math.isfinite(sample.value) and sample.value != _BLANK:
                samples.setdefault(sample.name, []).append(sample)
        return Page(samples, num_bad)

    def _is_wanted(self, rest: str, told: str) -> bool:
        name = _name(self._prefix + rest)
        wanted = name[:1] not in ("", "#") and name in self._wanted
        if told and not wanted:
            self._known[told] = _UNWANTED
        return wanted

    def _parsed(self, rest: str, told: str, value: str) -> Sample | None:
        """None for a line that is damaged."""
        try:
            (family,) = text_string_to_metric_families(f"{self._prefix}{rest}\n")
            (found,) = family.samples
        except (ValueError, IndexError, KeyError):
            return None
        sample = Sample(found.name, found.labels, float(found.value))
        if told and found.timestamp is None and _number(value) is not None:
            self._known[told] = sample
        return sample


def _number(text: str) -> float | None:
    """None of what is not a number alone, as the parser takes one."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _name(line: str) -> str:
    end = min(
        (at for at in (line.find("{"), line.find(" "), line.find("\t")) if at >= 0), default=0
    )
    return line[:end]
