"""A reader that knows a page's series reads the same as one that sees each page for the first time,
and as the parser by itself."""

from __future__ import annotations

import random
from collections.abc import Container
from pathlib import Path
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from profiler.foreign import page as page_module
from profiler.foreign.page import Page, PageReader, Sample
from profiler.foreign.reading import Reader, engine_of, read

PAGES: Final = sorted((Path(__file__).parents[2] / "data" / "metrics").glob("*.prom"))
VALUES: Final = ("0", "7.0", "1e3", "-2.5", "NaN", "+Inf", "9223372036854775794", "1_000", "0x1")


class Everything(Container[str]):
    def __contains__(self, name: object) -> bool:
        return True


def fresh(text: str) -> Page:
    return PageReader("", Everything()).read(text)


def parsed(text: str) -> list[Sample]:
    """By prometheus-client alone, in the page's order; what a line's TYPE makes of its name is left
    out, and so are values that say nothing."""
    lines = "\n".join(line for line in text.split("\n") if not line.startswith("#"))
    found = [s for family in text_string_to_metric_families(lines + "\n") for s in family.samples]
    return [
        Sample(s.name, s.labels, float(s.value))
        for s in found
        if abs(s.value) < 9e18 and s.value == s.value
    ]


def with_values(text: str, rng: random.Random) -> str:
    """The same page later: other values, some of them damaged, timed or parted by a tab."""
    lines = []
    for line in text.splitlines():
        series, space, _ = line.rpartition(" ")
        if line.startswith("#") or not space or rng.random() < 0.1:
            lines.append(line)
            continue
        value = rng.choice((*VALUES, str(rng.random()), str(rng.randrange(10**6))))
        time = rng.choice(("", "", "", " 1700000000000"))
        lines.append(f"{series}{rng.choice((' ', ' ', '  ', chr(9)))}{value}{time}")
    return "\n".join(lines)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_sample_page_is_read_as_the_parser_reads_it(path: Path) -> None:
    text = path.read_text()
    expected = parsed(text)
    reader = PageReader("", Everything())
    for _ in range(2):  # the first time by the parser, then by what is known
        page = reader.read(text)
        assert page.num_bad == 0
        flat = [sample for samples in page.samples.values() for sample in samples]
        assert sorted(map(repr, flat)) == sorted(map(repr, expected))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_what_is_known_of_earlier_pages_changes_nothing(path: Path) -> None:
    text, rng = path.read_text(), random.Random(path.stem)
    reader = PageReader("", Everything())
    for _ in range(40):
        later = with_values(text, rng)
        assert reader.read(later) == fresh(later)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_server_s_reader_says_what_one_reading_says(path: Path) -> None:
    text, rng = path.read_text(), random.Random(path.stem)
    engine = engine_of(text)
    if engine is None:
        return
    reader = Reader(engine)
    for _ in range(20):
        later = with_values(text, rng)
        assert reader.read(later, 5) == read(later, engine, 5)


def test_the_parser_sees_a_series_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def watched(text: str) -> object:
        seen.append(text)
        return text_string_to_metric_families(text)

    monkeypatch.setattr(page_module, "text_string_to_metric_families", watched)
    reader = PageReader("a", Everything())
    for value in range(5):
        reader.read(f'a{{le="0.1"}} {value}\na_b {value}.5\n')
    assert len(seen) == 2


def test_series_that_come_and_go_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "MAX_SAMPLES", 50)
    reader = PageReader("a", Everything())
    for number in range(400):
        page = reader.read(f'a{{request="{number}"}} 1\n')
        assert page.samples["a"][0].labels == {"request": str(number)}
    assert len(reader._known) <= 52


def test_a_page_of_too_many_series_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "MAX_SAMPLES", 50)
    text = "\n".join(f'a{{n="{n}"}} 1' for n in range(80))
    assert len(PageReader("a", Everything()).read(text).samples["a"]) == 50


def test_names_that_nobody_asks_for_are_not_parsed() -> None:
    text = 'a_x{b="1"} 1\na_y{b="1"} 1\na_x broken{ 3\n'
    reader = PageReader("a", {"a_y"})
    for _ in range(2):
        page = reader.read(text)
        assert set(page.samples) == {"a_y"} and page.num_bad == 0


@pytest.mark.parametrize("label", ["a b", "a\u2028b", "a\x0bb\x85", "a\\nb", 'a\\"b', "{}, #"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_line_ends_where_the_parser_ends_it(label: str, ending: str) -> None:
    reader = PageReader("a", Everything())
    for value in (1, 2):
        text = ending.join(("# TYPE a gauge", f'a{{n="{label}"}} {value}', "", "b 3", "a 4", ""))
        page = reader.read(text)
        assert page.num_bad == 0
        assert page.samples["a"] == [sample for sample in parsed(text) if sample.name == "a"]


def test_a_prefix_counts_at_the_beginning_of_a_line_alone() -> None:
    text = '# HELP a a\nb{c="a"} 1\n a 2\nba 3\na 4\n'
    page = PageReader("a", Everything()).read(text)
    assert page == Page({"a": [Sample("a", {}, 4.0)]}, 0)


def test_a_page_cut_anywhere_is_read_as_far_as_it_goes() -> None:
    lines = PAGES[-1].read_text().splitlines()[-6:]
    text = "\n".join((*lines, 'vllm:x{a="b",le="+Inf"} 17 1700000000000', ""))
    whole = [s for samples in fresh(text).samples.values() for s in samples]
    for end in range(len(text)):
        cut = fresh(text[:end])
        found = [sample for samples in cut.samples.values() for sample in samples]
        assert sum(sample not in whole for sample in found) + cut.num_bad <= 1
