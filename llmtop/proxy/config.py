"""What the processes of a proxy are told at their start."""

from __future__ import annotations

import msgspec


class ProxyConfig(msgspec.Struct, frozen=True):
    """`upstream` is the root of the server behind it. `socket_fd` is a listening socket that the
    process inherited; without one it opens `host` and `port` itself. `session_path` None records
    nothing. A server that sends nothing for `silence_s` is given up. A stop waits up to
    `drain_timeout_s` for the requests that run. `slo` are the objectives that the session is held
    to, as `--slo` writes them; alerts are posted to `alert_webhook`.
    """

    upstream: str
    host: str = "127.0.0.1"
    port: int = 8001
    socket_fd: int | None = None
    api_key: str | None = None
    session_path: str | None = None
    silence_s: float = 600.0
    drain_timeout_s: float = 30.0
    slo: str = ""
    alert_webhook: str | None = None

    @property
    def record(self) -> bool:
        return self.session_path is not None


class ObserverConfig(msgspec.Struct, frozen=True):
    """Of the process that observes what the one of `relay_pid` passes on at `url`. Its own paths
    are asked for on the listening socket `socket_fd`. `is_quiet` where nobody reads what it says.
    """

    proxy: ProxyConfig
    url: str
    socket_fd: int
    relay_pid: int
    is_quiet: bool
