"""What a load run has done so far, for whoever draws it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class LoadProgress:
    """Counts of one run, written by the run and read at any time.

    `num_output_tokens` grows with every chunk that arrives, warm-up included; the other counts
    leave the warm-up out, as the report does. `error` is the newest failure, "" before the first.
    """

    warming_up: bool = False
    t_start_ns: int | None = None
    num_in_flight: int = 0
    num_ok: int = 0
    num_failed: int = 0
    num_output_tokens: int = 0
    error: str = ""

    @property
    def num_done(self) -> int:
        return self.num_ok + self.num_failed
