"""Which requests are good, in SQL over the table `request`."""

from __future__ import annotations

from typing import Final

from profiler.folds.slo import Slo

_GOOD: Final = (
    "(coalesce(t_first_ns - t_queued_ns <= {ttft}, 1) "
    "AND coalesce((t_last_ns - t_first_ns) / (nullif(num_output_tokens, 1) - 1.0) <= {tpot}, 1) "
    "AND coalesce(t_last_ns - t_queued_ns <= {e2el}, 1))"
)
FINISHED: Final = "request IN (SELECT request FROM request_finished)"
"""A condition; other rows are of requests that were aborted."""


def good(slo: Slo) -> str:
    """1 or 0; a latency that a request has not is not missed."""
    bounds = {"ttft": slo.ttft_ms, "tpot": slo.tpot_ms, "e2el": slo.e2el_ms}
    return _GOOD.format_map(
        {name: "9e999" if ms is None else ms * 1e6 for name, ms in bounds.items()}
    )
