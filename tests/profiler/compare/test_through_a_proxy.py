"""Recordings of a proxy: tokens have times, and what nobody told is absent, not nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from profiler.compare.comparison import compare
from profiler.compare.ring_run import ring_run
from profiler.compare.run import Run, read_run
from profiler.compare.slices import Slices
from profiler.events import (
    AnyEvent,
    RequestAborted,
    RequestAnswered,
    RequestFinished,
    RequestFirstToken,
    RequestForwarded,
    RequestQueued,
    SessionStart,
    TokenArrival,
    TokensReceived,
)
from profiler.session.ring import Ring
from profiler.state import SessionState

MS, S = 1_000_000, 1_000_000_000
COUNT = 12


def events() -> list[AnyEvent]:
    """A request every half second: five tokens in half of that, and a sixth that only `usage` tells
    of. Of every fourth nothing is told but its tokens, and every sixth breaks off."""
    told: list[AnyEvent] = [
        SessionStart(S, S, "0.1.0", "other", "", 0, 0, 0, 0, 0, 4096, 0, 0, upstream="http://x")
    ]
    for n in range(1, COUNT + 1):
        t_ns = (2 + n) * S // 2
        tokens = tuple(TokenArrival(n, t_ns + 50 * i * MS, 1) for i in range(1, 6))
        usage = (None, None, None) if n % 4 == 0 else (100, 25, 6)
        end_ns = t_ns + 260 * MS
        told += [
            RequestQueued(t_ns, n, f"req-{n}", None, None),
            RequestForwarded(t_ns, n),
            RequestFirstToken(tokens[0].t_ns, n),
            TokensReceived(tokens[-1].t_ns, tokens),
            RequestAnswered(end_ns, n, 200, 99, t_ns, *usage, 5),
            RequestAborted(end_ns, n, "error: broke off", usage[2] or 5)
            if n % 6 == 0
            else RequestFinished(end_ns, n, "stop", usage[2] or 5),
        ]
    return told


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, record: Callable[[Path, list[AnyEvent]], Path]
) -> Run:
    return read_run(record(tmp_path_factory.mktemp("proxy") / "s.db", events()))


def test_tokens_have_a_rate_and_steps_have_none(run: Run) -> None:
    compared = compare(run, run)
    seconds = (COUNT - 1) / 2 + 0.26
    assert compared.values_a["tok_s"] == pytest.approx((9 * 6 + 3 * 5) / seconds)
    assert compared.values_a["req_s"] == pytest.approx(10 / seconds)
    unknown = {"prompt_tok_s", "preemptions", "kv_used_pct", "step_p50", "queue_p50"}
    assert not unknown & (compared.values_a.keys() | {row.name for row in compared.metrics})


def test_a_token_counts_when_it_came(run: Run) -> None:
    tokens = Slices(run).rates()["tok_s"].above
    assert tokens.sum() == run.requests.output_tokens.sum()
    assert (tokens > 0).all()


def test_a_share_of_cached_tokens_is_of_prompts_of_which_that_was_told(run: Run) -> None:
    assert compare(run, run).values_a["cached_pct"] == 25
    assert (run.requests.cached_tokens == -1).sum() == 3


def test_what_was_told_by_nobody_is_no_setting_of_zero(run: Run, base: Path) -> None:
    changes = {change.name: change.b for change in compare(read_run(base), run).config}
    assert changes["num_layers"] is None and changes["upstream"] == "http://x"


def test_what_a_ring_holds_of_a_proxy_is_the_same_run(run: Run) -> None:
    """It was read once as if every request told its prompt."""
    ring, state = Ring(), SessionState()
    for seq, event in enumerate(events(), 1):
        state.apply(event, seq)
        ring.append(event, state)
    assert compare(ring_run(ring), run).values_a == compare(run, run).values_a
