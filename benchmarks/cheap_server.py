#!/usr/bin/env python3
"""Streams completions of made-up tokens at set times, for as little CPU as a server in Python can:
what stands between it and a client is measured, and not it. Example:

    python benchmarks/cheap_server.py --port 8000 --first-ms 5 --gap-ms 5
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import re
from typing import Final

HOST: Final = "127.0.0.1"
HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
MODELS: Final = b'{"object":"list","data":[{"id":"cheap","object":"model"}]}'
OTHERS: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
    % (len(MODELS), MODELS)
)
_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_TOKENS: Final = re.compile(rb'"max_tokens":(\d+)')


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def token(reason: bytes) -> bytes:
    return chunk(
        b'data: {"id":"cmpl-1","object":"text_completion","created":1790000000,"model":"cheap",'
        b'"choices":[{"index":0,"text":" word","logprobs":null,"finish_reason":%s}]}\n\n' % reason
    )


PIECE: Final = token(b"null")
LAST: Final = token(b'"length"') + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One request at a time, each whole before its answer begins."""

    first_s = gap_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._held = transport, b""
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, end, body = self._held.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or (length is not None and len(body) < int(length[1])):
            return
        self._held = b""
        wanted = _TOKENS.search(body)
        if wanted is None:
            self._transport.write(OTHERS)
        else:
            self._loop.call_later(self.first_s, self._begin, int(wanted[1]))

    def _begin(self, num_left: int) -> None:
        self._send(HEAD, num_left)

    def _send(self, before: bytes, num_left: int) -> None:
        self._transport.write(before + (PIECE if num_left > 1 else LAST))
        if num_left > 1:
            self._loop.call_later(self.gap_s, self._send, b"", num_left - 1)


async def serve(protocol: type[asyncio.Protocol], port: int) -> None:
    """For ever, and without the collector, whose turns would be taken for the path's."""
    server = await asyncio.get_running_loop().create_server(protocol, HOST, port)
    gc.freeze()
    gc.disable()
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--first-ms", type=float, default=5.0, help="until the first token")
    parser.add_argument("--gap-ms", type=float, default=5.0, help="between two tokens")
    options = parser.parse_args()
    Connection.first_s, Connection.gap_s = options.first_ms / 1e3, options.gap_ms / 1e3
    asyncio.run(serve(Connection, options.port))


if __name__ == "__main__":
    main()
