"""Which TCP ports of this host listen where a loopback address reaches them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from llmtop.errors import LlmtopError

PROC_NET: Final = Path("/proc/net")
MAX_PORTS: Final = 256
_LISTEN: Final = "0A"


def listening_urls(proc_net: Path = PROC_NET) -> list[str]:
    """`http://127.0.0.1:PORT` of each, by port, one a port; at most 256.

    Raises: LlmtopError where the system does not tell, as only Linux does.
    """
    tables = [proc_net / name for name in ("tcp", "tcp6")]
    texts = [text for table in tables if (text := _text(table)) is not None]
    if not texts:
        raise LlmtopError(
            f"this system does not tell which ports listen: there is no {tables[0]}",
            "name the server: llmtop attach http://127.0.0.1:8000",
        )
    hosts: dict[int, str] = {}
    for text in texts:
        for host, port in _listening(text):
            hosts.setdefault(port, host)
    return [f"http://{hosts[port]}:{port}" for port in sorted(hosts)][:MAX_PORTS]


def _text(table: Path) -> str | None:
    try:
        return table.read_text("ascii", "replace")
    except OSError:
        return None


def _listening(table: str) -> Iterator[tuple[str, int]]:
    """Source: proc_net_tcp in the kernel's documentation. Lines of another form are left out."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 4 or fields[3] != _LISTEN:
            continue
        try:
            text, _, port = fields[1].partition(":")
            host, number = _reached_at(_address(text)), int(port, 16)
        except ValueError:
            continue
        if host and number:
            yield host, number


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The kernel prints words of four bytes, each in the order of a little-endian machine."""
    data = bytes.fromhex(text)
    words = [data[at : at + 4][::-1] for at in range(0, len(data), 4)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _reached_at(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """The loopback address that reaches it, "" for none."""
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    if not address.is_loopback:
        return ""
    return str(address) if address.version == 4 else f"[{address}]"
