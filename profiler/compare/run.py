"""One recording as columns: its requests and its steps, ready to be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from profiler.errors import SessionFileError
from profiler.events import SessionStart
from profiler.session.opening import damaged
from profiler.session.reader import SessionReader

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_ANSWERED: Final = ("stop", "length")
# A request that ended had been queued, so the join leaves none out.
_REQUESTS: Final = """
    SELECT r.request, r.name, r.finish_reason, r.num_prompt_tokens, q.max_tokens, r.cached_tokens,
           r.num_output_tokens, r.preemptions, r.t_queued_ns, r.t_scheduled_ns, r.t_first_ns,
           r.t_last_ns, r.t_done_ns, i.gaps_us
    FROM request r JOIN request_queued q ON q.request = r.request
    LEFT JOIN itl i ON i.request = r.request ORDER BY r.request
"""
_STEPS: Final = "SELECT t_ns, end_ns, prefill_tokens, new_tokens, pages_used FROM step ORDER BY seq"
_STAMPS: Final = 5


@dataclass(frozen=True, slots=True)
class Requests:
    """Those that ended, in order of arrival; each array is (n,). Stamps are ns, NaN where the
    request never got so far. Through a proxy not all is told of each request: `prompt_tokens` and
    `max_tokens` are then 0, `cached_tokens` -1.

    `gaps_us` holds the inter-token latencies of all of them, one after the other, and `num_gaps`
    how many each has.
    """

    numbers: Ints
    names: tuple[str, ...]
    answered: NDArray[np.bool_]
    prompt_tokens: Ints
    max_tokens: Ints
    cached_tokens: Ints
    output_tokens: Ints
    preemptions: Ints
    t_queued_ns: Floats
    t_scheduled_ns: Floats
    t_first_ns: Floats
    t_last_ns: Floats
    t_done_ns: Floats
    gaps_us: NDArray[np.uint32]
    num_gaps: Ints

    def __len__(self) -> int:
        return len(self.names)

    def latency_ms(self, name: str) -> Floats:
        """(n,) of "ttft", "tpot", "e2el", "queue" or "prefill", NaN where a request has none.

        TPOT and E2EL are those of answered requests alone, as on the dashboard.
        """
        if name == "queue":
            return (self.t_scheduled_ns - self.t_queued_ns) / 1e6
        if name == "prefill":
            return (self.t_first_ns - self.t_scheduled_ns) / 1e6
        if name == "ttft":
            return (self.t_first_ns - self.t_queued_ns) / 1e6
        last = np.where(self.answered, self.t_last_ns, np.nan)
        if name == "e2el":
            return (last - self.t_queued_ns) / 1e6
        tokens = np.where(self.output_tokens > 1, self.output_tokens - 1, np.nan)
        return (last - self.t_first_ns) / tokens / 1e6


@dataclass(frozen=True, slots=True)
class Steps:
    """Every engine step, in order; each array is (n,)."""

    t_ns: Ints
    end_ns: Ints
    prefill_tokens: Ints
    new_tokens: Ints
    pages_used: Ints


@dataclass(frozen=True, slots=True)
class Run:
    """`under_way` requests had not ended when the recording did, or have no row of their own."""

    path: Path
    start: SessionStart | None
    facts: dict[str, str]
    start_ns: int
    end_ns: int
    requests: Requests
    steps: Steps
    under_way: int

    @property
    def tells_steps(self) -> bool:
        """Not through a proxy, from where neither steps nor pages are seen."""
        return self.start is None or not self.start.upstream

    @property
    def num_pages(self) -> int:
        return 0 if self.start is None else self.start.num_pages

    @property
    def wall_ns(self) -> int:
        """Unix time at which the recording begins, before the model is ready; 0 if unknown."""
        start = self.start
        return 0 if start is None else start.wall_ns + self.start_ns - start.t_ns


def read_run(path: Path) -> Run:
    """The recording at `path`. Raises: SessionFileError, also when no request in it ended."""
    reader = SessionReader(path)
    try:
        run = _run(reader)
    except (TypeError, ValueError, OverflowError) as error:
        raise damaged(path, error) from None
    finally:
        reader.close()
    if not len(run.requests):
        raise SessionFileError(
            f"no request ended in {path.name}", "llmtop load sends some while it is recorded"
        )
    return run


def _run(reader: SessionReader) -> Run:
    requests = requests_of(reader.rows(_REQUESTS))
    return Run(
        reader.path,
        reader.session,
        reader.facts,
        reader.start_ns,
        reader.end_ns,
        requests,
        steps_of(reader.rows(_STEPS)),
        reader.num_requests - len(requests),
    )


def steps_of(rows: Iterable[tuple[int, ...]]) -> Steps:
    """Rows in the order of the fields of `Steps`, as columns."""
    return Steps(*_columns(rows, 5))


def requests_of(rows: Iterable[tuple[Any, ...]]) -> Requests:
    """Rows as `_REQUESTS` selects them, as columns."""
    names: list[str] = []
    answered: list[bool] = []
    counts: list[tuple[int, ...]] = []
    stamps: list[tuple[float, ...]] = []
    gaps: list[bytes] = []
    for number, name, reason, prompt_tokens, max_tokens, cached_tokens, *rest, packed in rows:
        names.append(str(name))
        answered.append(reason in _ANSWERED)
        told = -1 if cached_tokens is None else cached_tokens
        counts.append((number, prompt_tokens or 0, max_tokens or 0, told, *rest[:-_STAMPS]))
        stamps.append(tuple(np.nan if t is None else float(t) for t in rest[-_STAMPS:]))
        gaps.append(packed or b"")
    numbers, prompt, most, cached, output, preemptions = _columns(counts, 6)
    queued, scheduled, first, last, done = np.array(stamps, np.float64).reshape(-1, _STAMPS).T
    return Requests(
        numbers,
        tuple(names),
        np.array(answered, dtype=np.bool_),
        prompt,
        most,
        cached,
        output,
        preemptions,
        queued,
        scheduled,
        first,
        last,
        done,
        _gaps_us(gaps),
        np.array([len(packed) // 4 for packed in gaps], dtype=np.int64),
    )


def _gaps_us(gaps: Sequence[bytes]) -> NDArray[np.uint32]:
    """Raises: ValueError when one is cut."""
    if any(len(packed) % 4 for packed in gaps):
        raise ValueError("a list of inter-token latencies is cut short")
    return np.frombuffer(b"".join(gaps), dtype="<u4")


def _columns(rows: Iterable[tuple[Any, ...]], width: int) -> Sequence[Ints]:
    """The rows, `width` integers each, as columns."""
    flat = np.fromiter((value for row in rows for value in row), dtype=np.int64)
    return list(np.ascontiguousarray(flat.reshape(-1, width).T))
