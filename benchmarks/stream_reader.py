#!/usr/bin/env python3
"""Reads an event stream and throws it away: the cheapest reader there is, in its own process.

    python benchmarks/stream_reader.py URL

Ends when its standard input does, and prints how many bytes it read and the CPU it took.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time
from urllib.parse import urlsplit

PATH = "/v1/llmtop/events"


def main() -> None:
    parts = urlsplit(sys.argv[1])
    connection = socket.create_connection((parts.hostname, parts.port), timeout=10)
    connection.sendall(f"GET {PATH} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    num_bytes = drain(connection)
    print(json.dumps({"bytes": num_bytes, "cpu_s": time.process_time()}))


def drain(connection: socket.socket) -> int:
    selector = selectors.DefaultSelector()
    selector.register(connection, selectors.EVENT_READ)
    selector.register(sys.stdin, selectors.EVENT_READ)
    num_bytes = 0
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                return num_bytes
            data = os.read(connection.fileno(), 1 << 20)
            if not data:
                return num_bytes
            num_bytes += len(data)


if __name__ == "__main__":
    main()
