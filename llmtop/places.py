"""A place in time as a person types it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from profiler.folds.clock import NS_PER_S

EXPECTED: Final = "1:30, 90s, 50%, -30s or step 1200"
_STEP: Final = re.compile(r"step\s*(\d{1,18})")
_SHARE: Final = re.compile(r"(\d{1,3}(?:\.\d+)?)\s*%")
_CLOCK: Final = re.compile(r"(?:(\d{1,4}):)?(\d{1,4}):(\d{1,2}(?:\.\d+)?)")
_SECONDS: Final = re.compile(r"(\d{1,9}(?:\.\d+)?)\s*s?")
_BEFORE_END: Final = re.compile(r"-\s*(\d{1,9}(?:\.\d+)?\s*s|(?:\d{1,4}:)?\d{1,4}:\d{1,2})")


@dataclass(frozen=True, slots=True)
class Stretch:
    """The time there is, `start_ns` to `end_ns`. Times of a session count from `origin_ns`."""

    origin_ns: int
    start_ns: int
    end_ns: int

    def place(self, text: str) -> int | None:
        """The instant that `text` names, which may lie outside; None if it names none.

        A share counts from start to end, "-30s" back from the end, a time from the origin.
        """
        if match := _SHARE.fullmatch(text):
            share = float(match[1]) / 100
            return self.start_ns + round(share * (self.end_ns - self.start_ns))
        if match := _BEFORE_END.fullmatch(text):
            back_ns = duration_ns(match[1])
            return None if back_ns is None else self.end_ns - back_ns
        offset_ns = duration_ns(text)
        return None if offset_ns is None else self.origin_ns + offset_ns


def step_number(text: str) -> int | None:
    """The number in "step 1200"."""
    match = _STEP.fullmatch(text)
    return None if match is None else int(match[1])


def duration_ns(text: str) -> int | None:
    """Of "1:02:03", "1:30", "90s" or "90"; None for anything else."""
    if match := _CLOCK.fullmatch(text):
        hours, minutes, seconds = match[1] or "0", match[2], match[3]
        return round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * NS_PER_S)
    match = _SECONDS.fullmatch(text)
    return None if match is None else round(float(match[1]) * NS_PER_S)
