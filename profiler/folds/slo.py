"""What a request must meet to count as good."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from profiler.folds.request_view import RequestView


class Slo(msgspec.Struct, frozen=True, array_like=True):
    """Upper bounds in ms; None is no bound. The defaults are a chat's: 500 ms to the first token
    and 50 ms for each later one, which is faster than people read.

    Source: GuideLLM's chat example (ITL 50 ms) and MLPerf's interactive limits (TTFT 500 ms).
    """

    ttft_ms: float | None = 500.0
    tpot_ms: float | None = 50.0
    e2el_ms: float | None = None

    def failures(self, view: RequestView) -> list[str]:
        """The names of the objectives that a finished request missed."""
        measured: Mapping[str, tuple[float | None, float | None]] = {
            "ttft": (view.ttft_ns, self.ttft_ms),
            "tpot": (view.tpot_ns, self.tpot_ms),
            "e2el": (view.e2el_ns, self.e2el_ms),
        }
        return [
            name
            for name, (value_ns, bound_ms) in measured.items()
            if bound_ms is not None and value_ns is not None and value_ns > bound_ms * 1e6
        ]
