"""The gaps between the tokens of the requests on the screen, in order of length."""

from __future__ import annotations

from bisect import insort

from llmtop.columns import p95_ms
from profiler.folds.request_view import RequestView

_MAX_KEPT = 1024


class KeptGaps:
    """A request's gaps from frame to frame: of hundreds a frame adds a few.

    What was kept is let go where it is of another session, or of later than is shown.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], tuple[int, list[int]]] = {}

    def p95_ms(self, request: RequestView) -> float | None:
        """As `columns.itl_p95_ms`."""
        key = (request.request, request.t_queued_ns)
        upto, ordered = self._kept.get(key, (-1, []))
        if upto > request.last_step:
            upto, ordered = -1, []
        if upto < request.last_step:
            gaps = request.gaps_since(upto)
            if ordered:
                for gap_ns in gaps:
                    insort(ordered, gap_ns)
            else:
                ordered = sorted(gaps)
            if len(self._kept) > _MAX_KEPT:
                self._kept.clear()
            self._kept[key] = request.last_step, ordered
        return p95_ms(ordered)
