"""One request and its answer, measured while they pass."""

from __future__ import annotations

import time
from typing import Final, Protocol

from starlette.types import Scope

from llmtop.proxy.answer import Answer
from llmtop.proxy.asked import RequestBody
from llmtop.proxy.headers import Headers
from llmtop.proxy.ledger import Ledger
from llmtop.proxy.server import came_ns
from profiler.events import (
    RequestAborted,
    RequestAnswered,
    RequestFinished,
    RequestFirstToken,
    RequestForwarded,
    RequestQueued,
)

_MEASURED: Final = ("/completions",)  # /v1/completions and /v1/chat/completions, under any prefix


class Exchange(Protocol):
    """Is told what passes, each thing after it has passed. The last call ends it."""

    def asked(self, part: bytes) -> None:
        """A part of the request's body."""

    def sent(self) -> None:
        """The whole request is on its way."""

    def answered(self, status: int, headers: Headers) -> None: ...

    def received(self, part: bytes, t_ns: int) -> None:
        """A part of the answer's body, which came at `t_ns`."""

    def finished(self) -> None: ...

    def left(self) -> None:
        """The client went: after the whole answer, or before its end."""

    def aborted(self, reason: str) -> None: ...


class Unmeasured:
    """Of a request that asks for no completion."""

    def asked(self, part: bytes) -> None:
        pass

    def sent(self) -> None:
        pass

    def answered(self, status: int, headers: Headers) -> None:
        pass

    def received(self, part: bytes, t_ns: int) -> None:
        pass

    def finished(self) -> None:
        pass

    def left(self) -> None:
        pass

    def aborted(self, reason: str) -> None:
        pass


class Measured:
    """Turns one exchange into events. Whatever ends it twice is heard once."""

    def __init__(self, ledger: Ledger, t_queued_ns: int) -> None:
        self._ledger = ledger
        self._t_queued_ns = t_queued_ns
        self._number = ledger.next_number()
        self._body = RequestBody()
        self._is_queued = False
        self._has_token = False
        self._has_ended = False
        self._answer: Answer | None = None
        self._num_bytes = 0
        self._first_byte_ns: int | None = None

    def asked(self, part: bytes) -> None:
        self._body.feed(part)

    def sent(self) -> None:
        t_ns = time.monotonic_ns()
        self._queue()
        self._ledger.tell(RequestForwarded(t_ns, self._number))

    def answered(self, status: int, headers: Headers) -> None:
        self._answer = Answer(status, headers)

    def received(self, part: bytes, t_ns: int) -> None:
        self._num_bytes += len(part)
        if self._first_byte_ns is None:
            self._first_byte_ns = t_ns
        if self._answer is not None:
            num_tokens = self._answer.feed(part)
            if num_tokens:
                self._tokens(num_tokens, t_ns)

    def finished(self) -> None:
        t_ns, answer = time.monotonic_ns(), self._answer
        if answer is None:
            return
        whole = answer.end()
        if whole:
            self._ledger.arrived(self._number, t_ns, whole)
        if answer.failure:
            self.aborted(f"error: {answer.failure}")
        elif self._ends(t_ns):
            reason = "length" if answer.finish_reason == "length" else "stop"
            self._ledger.tell(RequestFinished(t_ns, self._number, reason, self._num_output_tokens))

    def left(self) -> None:
        if self._answer is not None and self._answer.is_whole:
            self.finished()
        else:
            self.aborted("disconnect")

    def aborted(self, reason: str) -> None:
        t_ns = time.monotonic_ns()
        if self._ends(t_ns):
            self._ledger.tell(RequestAborted(t_ns, self._number, reason, self._num_output_tokens))

    def _queue(self) -> None:
        """Tell that it came: once its body is known, or it has ended before that."""
        if self._is_queued:
            return
        self._is_queued = True
        asked, name = self._body.read(), f"req-{self._number}"
        self._ledger.tell(
            RequestQueued(
                self._t_queued_ns, self._number, name, None, asked.most_tokens, 0, asked.sampling
            )
        )

    def _tokens(self, num_tokens: int, t_ns: int) -> None:
        if not self._has_token:
            self._has_token = True
            self._ledger.tell(RequestFirstToken(t_ns, self._number))
        self._ledger.arrived(self._number, t_ns, num_tokens)

    @property
    def _num_output_tokens(self) -> int:
        answer = self._answer
        if answer is None:
            return 0
        told = answer.usage.completion_tokens
        return (answer.counted_tokens or 0) if told is None else told

    def _ends(self, t_ns: int) -> bool:
        """Whether it ends only now; tells what came."""
        if self._has_ended:
            return False
        self._has_ended = True
        self._queue()
        self._ledger.flush()
        self._ledger.tell(self._what_came(t_ns))
        return True

    def _what_came(self, t_ns: int) -> RequestAnswered:
        answer, first_ns = self._answer, self._first_byte_ns
        if answer is None:
            return RequestAnswered(t_ns, self._number, 0, self._num_bytes, first_ns)
        return RequestAnswered(
            t_ns,
            self._number,
            answer.status,
            self._num_bytes,
            first_ns,
            answer.usage.prompt_tokens,
            answer.usage.cached_tokens,
            answer.usage.completion_tokens,
            answer.counted_tokens,
            answer.finish_reason,
        )


def exchange_of(scope: Scope, ledger: Ledger) -> Exchange:
    asks = scope["method"] == "POST" and scope["path"].endswith(_MEASURED)
    return Measured(ledger, came_ns(scope)) if asks else Unmeasured()
