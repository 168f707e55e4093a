"""Page changes of one step, neighbours that changed alike merged into runs."""

from __future__ import annotations

from profiler.events import PageRun


class RunLog:
    """Collects changes in the order they happened until `take` hands them out."""

    def __init__(self) -> None:
        self._runs: list[PageRun] = []
        self._op = ""
        self._request = 0
        self._first = 0
        self._count = 0

    def add(self, op: str, page: int, request: int) -> None:
        if self._count and op == self._op and request == self._request:
            if page == self._first + self._count:
                self._count += 1
                return
            # A table is released from its end; it is never allocated so, and keeps its order.
            if op == "release" and page == self._first - 1:
                self._first = page
                self._count += 1
                return
        self._close_run()
        self._op, self._request, self._first, self._count = op, request, page, 1

    def take(self) -> tuple[PageRun, ...]:
        self._close_run()
        runs, self._runs = tuple(self._runs), []
        return runs

    def _close_run(self) -> None:
        if self._count:
            self._runs.append(PageRun(self._op, self._first, self._count, self._request))
            self._count = 0
