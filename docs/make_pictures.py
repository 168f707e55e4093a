"""Draws the pictures of README.md and docs/ anew, of real sessions of the small default model.

Servers are started one after another under the same kind of load: as they come, with packed pages,
and with prompts cut in small chunks. The first is looked at while it works, the others are pictures
of the recordings. The machine should have nothing else to do: what the pictures show is what it
could give.

    python docs/make_pictures.py            # three minutes on two cores
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

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


def overview(session: Path) -> None:
    with serving(session) as url:
        endless = llmtop("load", url, *LOAD, "--duration", "600")
        load = subprocess.Popen(endless, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(LOOK_AFTER_S)
            draw("overview", url, "--after", "5")
        finally:
            load.terminate()
            load.wait()


def recorded(session: Path, *flags: str) -> Path:
    """The session of a server with these flags under a load that ends."""
    with serving(session, *flags) as url:
        whole = llmtop("load", url, *LOAD, "--num-prompts", "40")
        subprocess.run(whole, check=True, stdout=subprocess.DEVNULL)
    return session


def main() -> int:
    # What the device can do at most is known from then on, and shares of it are shown.
    subprocess.run(llmtop("doctor", "--measure"), stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory(prefix="llmtop-pictures-") as folder:
        plain = Path(folder) / "plain.db"
        overview(plain)
        draw("steps", str(plain), "--screen", "steps", "--at", "80%")
        int8 = recorded(Path(folder) / "int8.db", "--kv-cache-dtype", "int8")
        draw("kv", str(int8), "--screen", "kv", "--at", "60%")
        whole = recorded(Path(folder) / "whole.db")
        chunks = recorded(Path(folder) / "chunks.db", "--max-num-batched-tokens", "64")
        draw("compare", str(chunks), "--against", str(whole))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
