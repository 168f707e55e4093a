"""Starts a server, waits until it answers, and ends it: what the benchmarks here share."""

from __future__ import annotations

import http.client
import json
import os
import platform
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Launch:
    """How to start a server; "{port}" in the command becomes a free port."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    """A server that answers. `ready_s` is from the start of its process to 200 on /health."""

    launch: Launch
    port: int
    pid: int
    ready_s: float

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


def llmtop(name: str, model: str | None, *flags: str) -> Launch:
    """Our own server out of this checkout."""
    command = [sys.executable, "-m", "llmtop", "serve", *([model] if model else [])]
    return Launch(name, [*command, "--headless", "--port", "{port}", *flags], environment())


def environment(**more: str) -> dict[str, str]:
    """Ours, with this checkout before whatever else is on the path of Python: the packages may be
    found by that path alone."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return os.environ | {"PYTHONPATH": path} | more


@contextmanager
def running(launch: Launch, log_folder: Path, timeout_s: float = 600) -> Iterator[Running]:
    port = free_port()
    log = log_folder / f"{launch.name}-{port}.log"
    with log.open("wb") as out:
        t0 = time.monotonic()
        process = subprocess.Popen(
            [part.replace("{port}", str(port)) for part in launch.command],
            env=os.environ | dict(launch.env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until_healthy(process, port, t0 + timeout_s, log)
            yield Running(launch, port, process.pid, time.monotonic() - t0)
        finally:
            end(process)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def wait_until_healthy(
    process: subprocess.Popen[bytes], port: int, deadline: float, log: Path
) -> None:
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"the server ended with {process.returncode}:\n{tail(log)}")
        if is_healthy(port):
            return
        time.sleep(0.02)
    sys.exit(f"the server was not ready in time:\n{tail(log)}")


def is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-20:])


def end_on_sigterm() -> None:
    """A benchmark that is told to end takes its servers with it, as after Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def machine() -> dict[str, object]:
    """What the numbers depend on."""
    return {
        "when": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "gpu": gpu_name(),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "commit": commit(),
    }


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def gpu_name() -> str:
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def print_machine(facts: Mapping[str, object]) -> None:
    print(", ".join(f"{name} {value}" for name, value in facts.items() if value), flush=True)


def write_json(path: Path | None, document: object) -> None:
    if path is not None:
        path.write_text(json.dumps(document, indent=2) + "\n")
        print(f"wrote {path}")


def shown(command: Sequence[str]) -> str:
    return shlex.join(part.replace(str(ROOT), ".") for part in command)
