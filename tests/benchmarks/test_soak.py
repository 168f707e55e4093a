"""The verdict of the soak: what every round leaves behind, and nothing that comes and goes."""

from __future__ import annotations

import math

import pytest
from soak import SETTLED_S, growth, report


def rows(objects: list[float], begin_s: float = SETTLED_S) -> list[list[float]]:
    return [[begin_s + 45 * at, 100.0, count, 101.0] for at, count in enumerate(objects)]


def test_what_every_round_leaves_behind_is_growth() -> None:
    leaking = [100_000 + 4000 * at + (0, 3000, 1000)[at % 3] for at in range(8)]
    assert growth(rows(leaking), 2) == pytest.approx(4000, rel=0.2)
    assert not report({"live": rows(leaking)})


def test_what_comes_and_goes_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    swinging = [100_000, 160_000, 101_000, 140_000, 163_000, 100_500, 155_000, 120_000]
    assert growth(rows(swinging), 2) < 500
    assert report({"live": rows(swinging)})
    assert "held" in capsys.readouterr().out


def test_what_fills_up_first_is_left_out_and_too_little_is_no_verdict() -> None:
    filling = rows([50_000, 70_000, 90_000], begin_s=0.0)
    level = rows([100_000] * 4)
    assert growth(filling + level, 2) == 0
    assert math.isnan(growth(filling + level[:1], 2))
    assert not report({"live": filling})
