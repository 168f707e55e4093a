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


# What a line says before its value: a name and labels. The first stands for all that nobody wants.
_Series = tuple[str, dict[str, str]]
_UNWANTED: Final[_Series] = ("", {})


def names_of(text: str) -> set[str]:
    """Of all samples of a page, whether the rest of their lines can be read or not."""
    return {_name(line) for line in text.splitlines() if line and line[0] != "#"}


class PageReader:
    """Reads the lines of the `wanted` names, which begin with `prefix`; NaN, infinities and blanks
    are left out.

    A server's next page has the same series with other values. The parser takes 40 us for a line,
    so it is shown each series once, and what it made of that is kept by the text before the value.
    What has another form goes to the parser each time: a timestamp, a tab, damage.
    """

    def __init__(self, prefix: str, wanted: Container[str]) -> None:
        self._prefix = prefix
        self._wanted = wanted
        self._known: dict[str, _Series] = {}

    def read(self, text: str) -> Page:
        if len(self._known) > MAX_SAMPLES:
            self._known.clear()
        samples: dict[str, list[Sample]] = {}
        num_read = num_bad = 0
        for line in [line for line in text.splitlines() if line.startswith(self._prefix)]:
            told, _, value = line.rpartition(" ")
            series = self._known.get(told)
            if series is _UNWANTED:
                continue
            sample = None if series is None else _valued(series, value)
            if sample is None:
                if not self._is_wanted(line, told):
                    continue
                sample = self._parsed(line, told, value)
            num_read += 1
            if num_read > MAX_SAMPLES:
                break
            if sample is None:
                num_bad += 1
            elif math.isfinite(sample.value) and sample.value != _BLANK:
                samples.setdefault(sample.name, []).append(sample)
        return Page(samples, num_bad)

    def _is_wanted(self, line: str, told: str) -> bool:
        wanted = line[:1] != "#" and _name(line) in self._wanted
        if told and not wanted:
            self._known[told] = _UNWANTED
        return wanted

    def _parsed(self, line: str, told: str, value: str) -> Sample | None:
        """None for a line that is damaged."""
        try:
            (family,) = text_string_to_metric_families(line + "\n")
            (sample,) = family.samples
        except (ValueError, IndexError, KeyError):
            return None
        series = (sample.name, sample.labels)
        if told and sample.timestamp is None and _valued(series, value) is not None:
            self._known[told] = series
        return Sample(*series, float(sample.value))


def _valued(series: _Series, value: str) -> Sample | None:
    """None where `value` is not a number alone, as the parser takes one."""
    try:
        return None if "_" in value else Sample(*series, float(value))
    except ValueError:
        return None


def _name(line: str) -> str:
    end = min(
        (at for at in (line.find("{"), line.find(" "), line.find("\t")) if at >= 0), default=0
    )
    return line[:end]
