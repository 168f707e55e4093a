"""The socket that a server listens on, bound before anything slow begins."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket

import click

from llmtop.errors import LlmtopError

BACKLOG = 2048
SEND_BUFFER_BYTES = 64 * 1024


def open_socket(host: str, port: int) -> socket.socket:
    """A listening socket; `port` 0 takes a free one. The caller closes it. Raises: LlmtopError."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise LlmtopError(f"{host} is no address of this machine: {error.strerror}") from None
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. The system's megabytes would hide for minutes that a client does
        # not read its tokens.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _bind_error(host, port, error) from None
    return listener


def inherited_or_new(
    socket_fd: int | None, host: str, port: int, api_key: str | None
) -> socket.socket:
    """The socket to serve on, the caller's to close. Raises: LlmtopError, also where others could
    reach it and there is no key."""
    listener = (
        open_socket(host, port) if socket_fd is None else socket.socket(fileno=os.dup(socket_fd))
    )
    bound = listener.getsockname()[0]
    if not api_key and not is_loopback(bound):
        listener.close()
        raise LlmtopError(
            f"{bound} is open to the network and there is no key", "set a key, or use 127.0.0.1"
        )
    return listener


def check_key(host: str, api_key: str | None) -> None:
    """Raises: LlmtopError where others could reach `host` and there is no key; click.UsageError for
    an empty one."""
    if api_key is not None and not api_key.strip():
        raise click.UsageError("the API key is empty")
    if not is_loopback(host) and not api_key:
        raise LlmtopError(
            f"{host} is open to the network and there is no key",
            "set LLMTOP_API_KEY, or serve on 127.0.0.1",
        )


def _bind_error(host: str, port: int, error: OSError) -> LlmtopError:
    if error.errno == errno.EADDRINUSE:
        return LlmtopError(f"port {port} is taken", "--port 0 takes a free one")
    if error.errno == errno.EACCES:
        return LlmtopError(f"port {port} is not allowed", "ports from 1024 on are")
    return LlmtopError(f"cannot listen on {host} port {port}: {error.strerror}")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url_of(listener: socket.socket) -> str:
    """The address that a client on this machine uses."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
