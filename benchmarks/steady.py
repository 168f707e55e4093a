"""Requests that decode side by side for as long as they are let, and when their tokens came.

The server says with every piece how many tokens there are (`continuous_usage_stats`), so a piece
that holds several is counted right.
"""

from __future__ import annotations

import json
import random
import re
import selectors
import socket
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Sequence

from servers import HOST

_COUNT = re.compile(rb'"completion_tokens":(\d+)[,}]')
_TAIL = 64  # longer than a count with its name
_ENOUGH = 8  # tokens of each request, after which all of them decode
_TIMEOUT_S = 120.0
# Ids that every vocabulary here has and that are neither special nor single bytes.
_TOKENS = range(1_000, 30_000)


class Stream:
    """One request. `seen` holds (time in s, tokens so far), one entry per arrival."""

    def __init__(self, port: int, num_prompt: int, num_output: int, rng: random.Random) -> None:
        self.seen: list[tuple[float, int]] = []
        self.ended = ""
        self._num_output = num_output
        self._tail = b""
        self.socket = socket.create_connection((HOST, port), timeout=_TIMEOUT_S)
        self.socket.sendall(_request(port, rng.choices(_TOKENS, k=num_prompt), num_output))

    @property
    def num_tokens(self) -> int:
        return self.seen[-1][1] if self.seen else 0

    def take(self, data: bytes) -> None:
        if not data:
            self.ended = "the server closed the connection"
        elif not self._tail and not data.startswith(b"HTTP/1.1 200"):
            self.ended = data.decode(errors="replace")[-500:]
        counts = _COUNT.findall(self._tail + data)
        self._tail = data[-_TAIL:]
        if counts and int(counts[-1]) > self.num_tokens:
            self.seen.append((time.monotonic(), int(counts[-1])))
        if self.num_tokens >= self._num_output:
            self.ended = "it has all its tokens: --output-len is too small"


def _request(port: int, prompt: list[int], num_output: int) -> bytes:
    body = json.dumps(
        {
            "prompt": prompt,
            "max_tokens": num_output,
            "ignore_eos": True,
            "stream": True,
            "return_token_ids": True,  # a piece for each token, be it only half a character
            "stream_options": {"continuous_usage_stats": True},
        }
    ).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {HOST}:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Streams:
    """`count` requests to the server at `port`, read by a thread of its own until closed."""

    def __init__(self, port: int, count: int, num_prompt: int, num_output: int, seed: int) -> None:
        rng = random.Random(seed)  # another seed, other prompts: the prefix cache answers none
        self._streams = [Stream(port, num_prompt, num_output, rng) for _ in range(count)]
        self._closing = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until every request decodes."""
        deadline = time.monotonic() + _TIMEOUT_S
        while min(stream.num_tokens for stream in self._streams) < _ENOUGH:
            self.check()
            if time.monotonic() > deadline:
                sys.exit(f"the requests were not answered within {_TIMEOUT_S:.0f} s")
            time.sleep(0.02)

    def check(self) -> None:
        for stream in self._streams:
            if stream.ended:
                sys.exit(f"a request ended before the measurement did: {stream.ended}")

    def step_s(self, first: float, last: float) -> float:
        """Mean seconds between two tokens of a request, of those that came in between."""
        self.check()
        return mean_step([stream.seen for stream in self._streams], first, last)

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        for stream in self._streams:
            stream.socket.close()

    def _read(self) -> None:
        selector = selectors.DefaultSelector()
        for stream in self._streams:
            selector.register(stream.socket, selectors.EVENT_READ, stream)
        while not self._closing:
            for key, _ in selector.select(0.1):
                key.data.take(stream_data(key.fileobj))
                if key.data.ended:
                    selector.unregister(key.fileobj)


def stream_data(connection: socket.socket) -> bytes:
    """What has come, b"" at its end."""
    try:
        return connection.recv(1 << 16)
    except OSError:
        return b""


def mean_step(seen: Sequence[Sequence[tuple[float, int]]], first: float, last: float) -> float:
    """Seconds a token, over arrivals at `first` or later and before `last`.

    Of each request the time from its first arrival to its last one counts, and the tokens after
    the first: what began before or ended after is left out on both sides.
    """
    passed, tokens = 0.0, 0
    for arrivals in seen:
        begin = bisect_left(arrivals, (first, 0))
        end = bisect_left(arrivals, (last, 0))
        if end - begin >= 2:
            passed += arrivals[end - 1][0] - arrivals[begin][0]
            tokens += arrivals[end - 1][1] - arrivals[begin][1]
    if not tokens:
        sys.exit("no request got two tokens in a window: --window is too short")
    return passed / tokens
