"""Tells alerts to a web address, without making anybody wait."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

import httpx

from llmtop import __version__
from llmtop.trust import trusted
from profiler.events import Finding

TIMEOUT_S: Final = 5.0
_MAX_WAITING: Final = 64
_LEAVE_WITHIN_S: Final = 2.0


class Webhook:
    """POSTs each alert as a JSON object from a thread of its own. Redirects are not followed.

    What cannot be delivered is told to `complain` in one line and dropped; so is what comes while
    64 alerts wait.
    """

    def __init__(
        self,
        url: str,
        complain: Callable[[str], None],
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url
        self._complain = complain
        self._transport = transport
        self._waiting: queue.Queue[dict[str, object] | None] = queue.Queue(_MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="llmtop-webhook", daemon=True)
        self._thread.start()

    def send(self, alert: Finding, model: str) -> None:
        """Returns at once."""
        try:
            self._waiting.put_nowait(_body(alert, model))
        except queue.Full:
            self._complain("alert webhook: too many alerts wait, one is dropped")

    def close(self) -> None:
        """Send what waits, for two seconds at most."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(_LEAVE_WITHIN_S)

    def _run(self) -> None:
        # No proxy and no netrc from the environment: only the address that was given.
        with httpx.Client(
            timeout=TIMEOUT_S,
            follow_redirects=False,
            trust_env=False,
            verify=trusted(),
            transport=self._transport,
        ) as client:
            while (body := self._waiting.get()) is not None:
                self._post(client, body)

    def _post(self, client: httpx.Client, body: dict[str, object]) -> None:
        try:
            status = client.post(self._url, json=body).status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            self._complain(f"alert webhook failed: {type(error).__name__}")
            return
        if not 200 <= status < 300:
            self._complain(f"alert webhook failed: status {status}")


def _body(alert: Finding, model: str) -> dict[str, object]:
    return {
        "source": f"llmtop {__version__}",
        "model": model,
        "status": alert.status,
        "rule": alert.rule,
        "text": alert.text,
        "t_ns": alert.t_ns,
        "since_ns": alert.since_ns,
        "evidence": alert.evidence,
    }
