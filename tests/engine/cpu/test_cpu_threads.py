"""The wait policy is ours only where the person has none."""

from __future__ import annotations

import os

from engine.cpu.threads import SPIN_TURNS, share_processors


def test_waiting_is_short_unless_the_person_says_otherwise(monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    share_processors()
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    share_processors()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    share_processors()
    assert os.environ["GOMP_SPINCOUNT"] == str(SPIN_TURNS)
