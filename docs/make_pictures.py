"""Draws the pictures of README.md and docs/ anew, of real sessions of the small default model.

Three servers are started one after another, each under the same kind of load: one is looked at
while it works, two are recorded, the second with packed pages. The machine should have nothing else
to do: what the pictures show is what it could give.

    python docs/make_pictures.py            # four minutes on two cores
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from llmtop.paths import HOME_VARIABLE, cache_dir

DOCS: Final = Path(__file__).resolve().parent
LOAD: Final = (
    *("--concurrency", "6", "--seed", "3"),
    *("--input-len", "24-48,96-160,256-384", "--output-len", "24-160"),
    *("--shared-prefix-share", "0.5", "--shared-prefix-len", "96"),
)
LOOK_AFTER_S: Final = 25.0


def llmtop(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "llmtop", *arguments]


@contextmanager
def serving(session: Path, *flags: str) -> Iterator[str]:
    """The URL of a server that is ready and records into `session`; it drains at the end."""
    command = llmtop("serve", "--headless", "--port", "0", "--session", str(session), *flags)
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        ready = server.stdout.readline().split()
        if ready[:1] != ["ready:"]:
            raise SystemExit("the server did not start")
        yield ready[1].rstrip(",")
    finally:
        server.terminate()
        server.wait()


def draw(name: str, source: str, *options: str) -> None:
    script, out = DOCS / "make_screenshot.py", DOCS / f"{name}.svg"
    subprocess.run([sys.executable, str(script), source, str(out), *options], check=True)


def live(session: Path) -> None:
    with serving(session) as url:
        endless = llmtop("load", url, *LOAD, "--duration", "600")
        load = subprocess.Popen(endless, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(LOOK_AFTER_S)
            draw("overview", url, "--after", "5")
        finally:
            load.terminate()
            load.wait()


def recorded(session: Path, *flags: str) -> str:
    with serving(session, "--block-size", "64", *flags) as url:
        whole = llmtop("load", url, *LOAD, "--num-prompts", "60")
        subprocess.run(whole, check=True, stdout=subprocess.DEVNULL)
    return str(session)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="llmtop-pictures-") as folder:
        home, cache = Path(folder), cache_dir()
        sessions = home / "data" / "sessions"
        sessions.mkdir(parents=True)
        cache.mkdir(parents=True, exist_ok=True)
        (home / "cache").symlink_to(cache)
        os.environ[HOME_VARIABLE] = folder
        # What the device can do at most is known from then on, and shares of it are shown.
        subprocess.run(llmtop("doctor", "--measure"), stdout=subprocess.DEVNULL)
        live(home / "live.db")
        packed = recorded(sessions / "int8.db", "--kv-cache-dtype", "int8")
        plain = recorded(sessions / "plain.db")  # the newest: Enter compares with it
        draw("steps", plain, "--screen", "steps", "--at", "60%")
        draw("kv", packed, "--screen", "kv", "--at", "60%")
        draw("compare", packed, "--screen", "compare", "--keys", "enter", "--wait", "5")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
