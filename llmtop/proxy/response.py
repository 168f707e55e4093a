"""One response of the server behind the proxy, by the parser's callbacks."""

from __future__ import annotations

from typing import Final

import httptools

from llmtop.proxy.headers import Headers

_NO_BODY: Final = (204, 304)


class WireError(Exception):
    """The server gave no whole response; the text says why, as a predicate of its address."""


class SilentError(WireError):
    """Nothing came in time."""


class UnansweredError(WireError):
    """The connection ended before a byte of the response. The server may have begun to answer."""


class UntakenError(UnansweredError):
    """It ended before the server's system took a byte of the request: nobody there can have read
    it, as the connection was closed when it came."""


class Response:
    """Parts of the body are taken out as they come."""

    def __init__(self, asked_head: bool) -> None:
        self.status = 0
        self.headers: Headers = []
        self.begun = self.complete = self.keeps_alive = self.heard = False
        self._asked_head = asked_head
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Raises: WireError."""
        self.heard = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            raise WireError("does not speak HTTP/1.1") from None

    def end_of_data(self) -> None:
        """The connection is closed. Raises: WireError where that cuts the response short."""
        if not self.heard:
            raise UnansweredError("ended the connection without an answer")
        names = {name.lower() for name, _ in self.headers}
        if not self.begun or names & {b"content-length", b"transfer-encoding"}:
            raise WireError("ended the connection without a whole answer")
        self.complete = True

    def take(self) -> bytes:
        """What came of the body since the last time."""
        part = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        return part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:  # an interim response: the real one follows
            self.headers = []
            return
        self.begun = True
        self.keeps_alive = self._parser.should_keep_alive()
        self.complete = self._asked_head or self.status in _NO_BODY

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        self.complete = self.complete or self.begun
