"""Numbers as people read them."""

import pytest

from llmtop import format as f


def test_unavailable_is_never_zero() -> None:
    for text in (f.grouped, f.short, f.milliseconds, f.ns_as_ms, f.seconds, f.size, f.percent):
        assert text(None) == "--"
        assert text(0) != "--"


@pytest.mark.parametrize(
    ("value", "text"),
    [(7, "7"), (53.04, "53.0"), (3940, "3940"), (21_340, "21.3k"), (1.2e6, "1.2M"), (2e9, "2G")],
)
def test_short_takes_at_most_five_characters(value: float, text: str) -> None:
    assert f.short(value) == text
    assert len(text) <= 5


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (14_889_779, "14.2 MiB"),
        (2**40, "1024 GiB"),
    ],
)
def test_sizes_are_binary(num_bytes: int, text: str) -> None:
    assert f.size(num_bytes) == text


@pytest.mark.parametrize(
    ("value_ns", "text"),
    [(400_000_000, "0.4s"), (8_200_000_000, "8.2s"), (74 * 10**9, "74s"), (724 * 10**9, "12m04")],
)
def test_durations(value_ns: int, text: str) -> None:
    assert f.seconds(value_ns) == text


def test_clock_groups_and_percent() -> None:
    assert f.clock(761 * 10**9) == "00:12:41"
    assert f.grouped(16384) == "16 384"
    assert f.percent(0.01, 100) == "<1%"
    assert f.percent(71, 100) == "71%"
    assert f.percent(1, 0) == "--"


def test_the_top_of_an_axis_is_round_and_never_exceeded() -> None:
    for value in (0.03, 0.7, 1, 1.2, 553, 600, 601, 9999, 123_456):
        top = f.nice_ceiling(value)
        assert value <= top <= 2 * value
    assert f.nice_ceiling(0) == 1.0


def test_metric_units_keep_three_digits() -> None:
    values = (None, 0, 7, 999.4, 1234, 52_469_000_000, 999.6e9, 4.6084e12, 988.2e12)
    assert [f.metric(value, "B/s") for value in values] == [
        "--", "0.00 B/s", "7.00 B/s", "999 B/s", "1.23 kB/s", "52.5 GB/s", "1.00 TB/s",
        "4.61 TB/s", "988 TB/s",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value_ms", "text"),
    [(None, "--"), (11.84, "11.8"), (99_999, "99 999"), (333_487, "5m33"), (9e7, "25h00")],
)
def test_a_latency_is_never_cut_to_another_number(value_ms: float | None, text: str) -> None:
    assert f.milliseconds_within(value_ms, 6) == text
