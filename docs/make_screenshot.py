"""Draws a screen of llmtop as SVG: the program's own picture, of a recording or a running server.

python docs/make_screenshot.py SESSION.db docs/overview.svg --at 50%
python docs/make_screenshot.py B.db docs/compare.svg --against A.db
python docs/make_screenshot.py http://127.0.0.1:8000 docs/kv.svg --screen kv --after 5
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Final

from llmtop.app import LlmtopApp
from llmtop.compare.app import CompareApp
from llmtop.compare.choice import Choice
from llmtop.errors import LlmtopError
from llmtop.keys import Keymap
from llmtop.sources.base import Source
from llmtop.sources.remote import RemoteSource
from llmtop.sources.replay import ReplaySource
from profiler.compare.comparison import compare
from profiler.compare.run import read_run
from profiler.errors import ProfilerError

DIGIT_OF: Final = {page: digit for digit, page, _ in Keymap().pages()}


def source_of(options: argparse.Namespace) -> Source:
    """The server at a URL, or a recording that stands still. Raises: LlmtopError, ProfilerError."""
    if "://" in options.session:
        return RemoteSource(options.session)
    replay = ReplaySource(Path(options.session), at=options.at)
    replay.toggle()
    return replay


async def comparison(options: argparse.Namespace) -> str:
    """The SVG of the screen that `llmtop compare` opens. Raises: ProfilerError."""
    base, other = read_run(Path(options.against)), read_run(Path(options.session))
    app = CompareApp(Choice(compare(base, other, None, ())))
    async with app.run_test(size=size_of(options)) as pilot:
        for key in options.keys:
            await pilot.press(key)
        await pilot.pause()
        return app.export_screenshot(title="llmtop", simplify=True)


async def picture(source: Source, options: argparse.Namespace) -> str:
    """The SVG of the screen after the keys were pressed and, from a server, time has passed."""
    app = LlmtopApp(source)
    async with app.run_test(size=size_of(options)) as pilot:
        if options.theme:
            app.theme = options.theme
        await asyncio.sleep(options.after if source.replay is None else 0)
        app.frame()
        for key in (DIGIT_OF[options.screen], *options.keys):
            await pilot.press(key)
            await asyncio.sleep(options.wait)
        await pilot.pause()
        app.frame()
        await pilot.pause()
        return app.export_screenshot(title="llmtop", simplify=True)


def drawn(options: argparse.Namespace) -> str:
    """Raises: LlmtopError, ProfilerError."""
    if options.against:
        return asyncio.run(comparison(options))
    source = source_of(options)
    try:
        return asyncio.run(picture(source, options))
    finally:
        source.stop()


def size_of(options: argparse.Namespace) -> tuple[int, int]:
    width, height = map(int, options.size.split("x"))
    return width, height


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("session", help="a recording, or the URL of a running server")
    parser.add_argument("out", type=Path, help="the SVG to write")
    parser.add_argument("--screen", choices=DIGIT_OF, default="overview")
    parser.add_argument("--size", default="120x40", help="columns x lines")
    parser.add_argument("--against", help="a recording: draw the comparison of it and this one")
    parser.add_argument("--at", help="place in the recording: 1:30, 90s, 50%% or 'step 1200'")
    parser.add_argument("--after", type=float, default=3.0, help="seconds to watch a server first")
    parser.add_argument(
        "--keys", nargs="*", default=[], help="keys to press, as Textual names them"
    )
    parser.add_argument(
        "--wait", type=float, default=0.0, help="seconds after each key, for what is read meanwhile"
    )
    parser.add_argument("--theme", help="llmtop-dark, -light, -safe or ansi-dark")
    return parser.parse_args()


def main() -> int:
    options = parsed()
    try:
        svg = drawn(options)
    except (LlmtopError, ProfilerError) as error:
        print(error.message, file=sys.stderr)
        return 1
    options.out.write_text(svg, encoding="utf-8")
    print(f"{options.out}: {len(svg) / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
