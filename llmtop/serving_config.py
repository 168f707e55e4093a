"""What a server process is told at its start."""

from __future__ import annotations

import msgspec

from engine.config import EngineConfig
from engine.server.pulse import SILENT_S


class ServeConfig(msgspec.Struct, frozen=True):
    """`socket_fd` is a listening socket that the process inherited; without one it opens `host`
    and `port` itself. `session_path` None records into a new file under the data folder.
    `observe` False switches off every event, the recording and the samplers: for measuring what
    they cost. `slo` are the objectives that the session is held to, as `--slo` writes them; alerts
    are posted to `alert_webhook`. A stop waits up to `drain_timeout_s` for the requests that run. A
    core that gives no sign of life for `core_silent_s` is told of. With `control` clients may give
    orders, as the dashboard's `T` does; with the `owner_key`, "" for none, also without it.
    """

    engine: EngineConfig = EngineConfig()
    host: str = "127.0.0.1"
    port: int = 8000
    socket_fd: int | None = None
    api_key: str | None = None
    served_model_name: str | None = None
    record: bool = True
    session_path: str | None = None
    observe: bool = True
    drain_timeout_s: float = 30.0
    core_silent_s: float = SILENT_S
    slo: str = ""
    alert_webhook: str | None = None
    control: bool = False
    owner_key: str = ""
