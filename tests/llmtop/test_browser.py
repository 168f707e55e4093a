"""`--web`: the dashboard in a browser, for who started it alone."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytest.importorskip("textual_serve")

import aiohttp
from aiohttp import web

from llmtop.browser.page import BrowserPage, attach_command
from llmtop.cli import main
from llmtop.commands import attach
from llmtop.commands.attaching import addresses_of, words_of
from llmtop.commands.listen import open_socket
from llmtop.peer import Address

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium")


@pytest.fixture
async def page() -> AsyncIterator[BrowserPage]:
    listener = open_socket("127.0.0.1", 0)
    page = BrowserPage("exit 1", listener, None)
    runner = web.AppRunner(await page.app())
    await runner.setup()
    await web.SockSite(runner, listener).start()
    yield page
    await runner.cleanup()


def parts(page: BrowserPage) -> tuple[str, str]:
    base, _, token = page.url.partition("/?token=")
    return base, token


async def status(url: str, headers: dict[str, str] | None = None) -> int:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status


async def test_only_who_knows_the_token_gets_in(page: BrowserPage) -> None:
    base, token = parts(page)
    assert len(token) >= 32
    assert await status(page.url) == 200
    for path in ("/", "/ws", "/static/js/textual.js", "/?token=", f"/?token={token[:-1]}"):
        assert await status(base + path) == 403


async def test_other_sites_are_refused_even_with_the_token(page: BrowserPage) -> None:
    base, _ = parts(page)
    assert await status(page.url, {"Origin": "http://evil.example"}) == 403
    assert await status(page.url, {"Host": "evil.example"}) == 403
    assert await status(page.url, {"Origin": base}) == 200


async def test_the_page_asks_nobody_but_us(page: BrowserPage) -> None:
    base, _ = parts(page)
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        text = await (await session.get(page.url)).text()
        addresses = re.findall(r"""\w+://[^"'\s)]+""", text)
        assert addresses
        assert all(a.split("://")[1].startswith(base.split("://")[1]) for a in addresses)
        for address in (a for a in addresses if a.startswith("http")):
            assert (await session.get(address)).status == 200, address
        cookie = next(iter(jar))
        assert cookie["httponly"] and cookie["samesite"] == "Strict"


ONE, TWO = "http://127.0.0.1:1", "http://127.0.0.1:2"


def words(*given: str, asked: bool = True) -> list[str]:
    """What a tab of `llmtop attach --web` runs `llmtop attach` with."""
    options = attach.command.make_context("attach", list(given)).params
    addresses = addresses_of(options["urls"] or [ONE], options)
    return words_of(addresses, options, asked)


def test_the_command_of_a_tab_names_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/a b")
    monkeypatch.setenv("LLMTOP_API_KEY", "sesame")
    monkeypatch.setenv("KEY_OF_TWO", "open")
    command = attach_command(words(ONE, TWO, "--api-key-for", "127.0.0.1:2=KEY_OF_TWO"))
    assert "/a b'" in command and f"attach {ONE} {TWO}" in command
    assert "--api-key-env LLMTOP_API_KEY --api-key-for 127.0.0.1:2=KEY_OF_TWO" in command
    assert "sesame" not in command and "open" not in command


@pytest.mark.parametrize(
    "given",
    [
        (ONE, TWO, "--slo", "ttft_p99<500ms,itl_p99<40ms", "--slow"),
        (ONE, "--kv-events", "tcp://*:5557,tcp://*:5558", "--gpu-metrics", TWO, "--privacy"),
        (ONE, "--kv-events", "tcp://*:5557", "--kv-events", "tcp://*:5559"),
        (ONE, "--drain-metrics", "--control"),
    ],
)
def test_a_tab_watches_what_was_asked_for(given: tuple[str, ...]) -> None:
    """The tab's own words, read again, are the options that were given."""
    asked = attach.command.make_context("attach", list(given)).params
    again = attach.command.make_context("attach", words(*given)).params
    assert again == asked


def test_who_was_found_gets_no_key_in_a_tab_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTOP_API_KEY", "sesame")
    again = attach.command.make_context("attach", words(ONE, asked=False)).params
    assert addresses_of(again["urls"], again) == [Address(ONE, None)]


@pytest.mark.parametrize(
    "wrong",
    [
        ["serve", "--web", "--headless"],
        ["attach", ONE, "--web", "--once"],
        ["attach", ONE, "--web", "--alert-webhook", TWO],
        ["attach", ONE, TWO, "--web", "--control"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(wrong: list[str]) -> None:
    assert main(wrong) == 2


class Serving(NamedTuple):
    process: subprocess.Popen[str]
    url: str


def started(home: Path, *command: str) -> Serving:
    """`llmtop` with `--web`, as a person starts it."""
    env = os.environ | {
        "LLMTOP_HOME": str(home),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    env.pop("LLMTOP_API_KEY", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "llmtop", *command, "--web"],
        env=env,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("open http://127.0.0.1:"), line + process.stderr.read()
    return Serving(process, line.split()[1])


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    flags = ("--port", "0", "--num-threads", "1", "--num-gpu-blocks-override", "256")
    serving = started(tmp_path_factory.mktemp("home"), "serve", "random:tiny", *flags)
    yield serving
    if serving.process.poll() is None:
        serving.process.kill()
    serving.process.wait()


async def test_a_tab_shows_the_real_server(serving: Serving) -> None:
    address = serving.url.partition("/?")[0].replace("http", "ws") + "/ws?width=120&height=40"
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        assert (await session.get(serving.url)).status == 200
        async with session.ws_connect(address) as socket:
            assert await drawn(socket, b"random:tiny")
            await socket.send_json(["stdin", "2"])
            assert await drawn(socket, b"no request")


async def test_a_tab_shows_several_servers(peer: Any, tmp_path: Path) -> None:
    page = (ROOT / "tests" / "data" / "metrics" / "vllm.prom").read_bytes()
    peers = [peer({"/metrics": (200, "text/plain; version=0.0.4", page)}) for _ in range(2)]
    serving = started(tmp_path, "attach", *(one.url for one in peers))
    address = serving.url.partition("/?")[0].replace("http", "ws") + "/ws?width=120&height=40"
    try:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            assert (await session.get(serving.url)).status == 200
            async with session.ws_connect(address) as socket:
                assert await drawn(socket, peers[1].url.removeprefix("http://").encode())
    finally:
        serving.process.terminate()
        assert serving.process.wait(60) == 0


async def drawn(socket: aiohttp.ClientWebSocketResponse, word: bytes) -> bool:
    """Whether `word` is drawn within half a minute."""
    seen = b""
    while word not in seen:
        message = await socket.receive(timeout=30)
        if message.type is not aiohttp.WSMsgType.BINARY:
            return False
        seen += message.data
    return True


class Chromium:
    """A headless browser, told what to do over its own debugging socket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._count = 0

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        await self._socket.send_json({"id": self._count, "method": method, "params": params})
        while True:
            answer = json.loads((await self._socket.receive(timeout=30)).data)
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    async def value(self, expression: str) -> Any:
        found = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        return found["result"].get("value")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
async def test_a_real_browser_draws_it(serving: Serving, tmp_path: Path) -> None:
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,900")
    profile = (f"--user-data-dir={tmp_path}", "--remote-debugging-port=0")
    browser = subprocess.Popen(
        [str(CHROMIUM), *flags, *profile, "about:blank"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert browser.stderr is not None
        said = (line for line in browser.stderr if "DevTools listening on ws://" in line)
        port = next(said).split("127.0.0.1:")[1].partition("/")[0]
        picture = await photographed(port, serving.url)
    finally:
        browser.kill()
        browser.wait()
    kept = os.environ.get("LLMTOP_TEST_PICTURES")
    if kept:
        Path(kept, "browser.png").write_bytes(picture)
    assert len(picture) > 20_000


DRAWN = "document.body && document.body.classList.contains('-first-byte')"


async def photographed(port: str, url: str) -> bytes:
    """A PNG of the page three seconds after it drew its first byte."""
    async with aiohttp.ClientSession() as session:
        targets = await (await session.get(f"http://127.0.0.1:{port}/json")).json()
        target = next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page")
        async with session.ws_connect(target, max_msg_size=0) as socket:
            chromium = Chromium(socket)
            await chromium.ask("Page.navigate", url=url)
            for _ in range(300):
                if await chromium.value(DRAWN) is True:
                    break
                await asyncio.sleep(0.1)
            assert await chromium.value(DRAWN) is True
            await asyncio.sleep(3)
            shot = await chromium.ask("Page.captureScreenshot", format="png")
    return base64.b64decode(shot["data"])


def test_sigterm_ends_the_page_and_its_server(serving: Serving) -> None:
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(60) == 0
    assert serving.process.stderr is not None
    assert "Traceback" not in serving.process.stderr.read()
