#!/usr/bin/env python3
"""Passes bytes between TCP connections and looks at none: the least that anything in Python adds
between a client and a server. Example:

    python benchmarks/cheap_relay.py --port 8001 --upstream-port 8000
"""

from __future__ import annotations

import argparse
import asyncio

from cheap_server import HOST, serve


class Side(asyncio.Protocol):
    """One of two connections; what comes on it goes to the other."""

    def __init__(self, other: asyncio.Transport) -> None:
        self._other = other

    def data_received(self, data: bytes) -> None:
        self._other.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._other.close()


class Client(asyncio.Protocol):
    """Of a client's side; it connects to the server and holds what comes before it has."""

    upstream_port = 0

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._server: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._connecting = asyncio.ensure_future(self._connect(transport))

    async def _connect(self, transport: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        self._server, _ = await loop.create_connection(
            lambda: Side(transport), HOST, self.upstream_port
        )
        self._server.write(b"".join(self._held))

    def data_received(self, data: bytes) -> None:
        if self._server is None:
            self._held.append(data)
        else:
            self._server.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self._server is not None:
            self._server.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream-port", type=int, required=True)
    options = parser.parse_args()
    Client.upstream_port = options.upstream_port
    asyncio.run(serve(Client, options.port))


if __name__ == "__main__":
    main()
