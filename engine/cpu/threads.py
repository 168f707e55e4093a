"""How torch's threads wait for each other. No torch: this must be said before it is imported."""

from __future__ import annotations

import os
from typing import Final

# A thread that waits spins this often, then sleeps. GNU OpenMP's own 300,000 turns are 16 ms of a
# Xeon, spent in each of a step's 200 meetings whenever another process holds the second core: a
# step of SmolLM2 on two busy cores took 1,400 ms with it and 130 to 160 ms with 2,000 turns.
# 2,000 turns are 0.1 ms, longer than the pause between two operations of a step.
SPIN_TURNS: Final = 2000


def share_processors() -> None:
    """Makes waiting threads give way to other processes, unless the person has set otherwise."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_TURNS))
