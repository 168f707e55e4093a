"""Who may only look can look at everything, and sends and writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtop.app import LlmtopApp
from llmtop.browser.page import attach_command
from llmtop.cli import main
from llmtop.commands import attach, replay, serve
from llmtop.commands.attaching import words_of
from llmtop.keys import KEYS, Keymap
from llmtop.peer import Address
from llmtop.screens.kernels import KernelsScreen
from llmtop.viewing import Viewing
from llmtop.widgets.helptext import help_rows
from llmtop.widgets.rows import plain
from profiler.events import KernelRow, KernelWindow

URL = "http://127.0.0.1:9"
READONLY = Viewing(readonly=True)
ACTING = {"bookmark", "record", "load", "prompt", "export", "picture"}
TextOf = Callable[[Any], str]


def app_on(source: Any, viewing: Viewing = READONLY) -> LlmtopApp:
    return LlmtopApp(source, URL, viewing=viewing)


def told(app: LlmtopApp) -> list[str]:
    return [notification.message for notification in app._notifications]


def test_the_registry_says_which_keys_act() -> None:
    assert {key.name for key in KEYS if key.acts} == ACTING


@pytest.mark.parametrize("key", [key for key in KEYS if key.acts], ids=lambda key: key.name)
async def test_a_key_that_acts_is_refused_in_one_line_with_a_hint(
    busy_source: Any, key: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    busy_source.keep = lambda: pytest.fail("it was recorded")
    app = app_on(busy_source)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press(key.keys)
        await pilot.pause()
        assert told(app) == [f"{key.shown} {key.label}: refused by --readonly"]
        assert len(app.screen_stack) == 2
        assert not app._dashboard.asking
        await app._dashboard.run_action(key.action)  # as a click and the palette do
        await pilot.pause()
        assert len(told(app)) == 2
    assert not app.model.load
    assert not list(tmp_path.iterdir())


async def test_looking_and_moving_in_time_stay(busy_source: Any, text_of: TextOf) -> None:
    app = app_on(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("2", "j", "enter", "space", "left_square_bracket")
        await pilot.pause()
        assert "REWIND" in text_of(app)
        assert not told(app)


async def test_keys_that_are_refused_are_not_offered(busy_source: Any, text_of: TextOf) -> None:
    app = app_on(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert "l load" not in text_of(app)
        commands = {command.title for command in app.get_system_commands(app.screen)}
        assert "load (l)" not in commands and "theme (t)" in commands
    keys = "\n".join(plain(row) for row in help_rows(app.keymap, "live", 116))
    for key in KEYS:
        assert (key.help in keys) == (key.mode in ("any", "live") and not key.acts), key


def test_a_key_of_ones_own_is_named_in_the_refusal() -> None:
    keymap = Keymap({"load": ("ctrl+l", "^l")}, readonly=True)
    refused = keymap.refused("load", "live")
    assert refused is not None and refused.shown == "^l"
    assert keymap.refused("load", "replay") is None
    assert Keymap().refused("load", "live") is None


@pytest.mark.parametrize(
    ("viewing", "said"),
    [
        (READONLY, "no new capture: refused by --readonly"),
        (Viewing(), "a new capture needs --control, of llmtop serve and here"),
        (Viewing(readonly=True, control=True), "no new capture: refused by --readonly"),
    ],
)
async def test_without_control_the_windows_that_are_there_are_shown(
    busy_source: Any,
    text_of: TextOf,
    monkeypatch: pytest.MonkeyPatch,
    viewing: Viewing,
    said: str,
) -> None:
    monkeypatch.setattr(
        "llmtop.screens.orderkeys.order_capture", lambda *order: pytest.fail("it was ordered")
    )
    state = busy_source.poll(0)
    rows = (KernelRow("_decode_kernel", 1, 1_000_000),)
    state.kernels = KernelWindow(state.t_ns, 0, 0, 1, 2, "cpu", rows)
    app = app_on(busy_source, viewing)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        await pilot.press("T")
        await pilot.pause()
        assert isinstance(app.screen, KernelsScreen)
        assert "_decode_kernel" in text_of(app)
        assert len(told(app)) == 1 and said in told(app)[0]


def test_the_commands_take_the_options_and_a_browser_tab_gets_them() -> None:
    options = attach.command.make_context("attach", [URL, "--privacy", "--control"]).params
    assert (options["privacy"], options["readonly"], options["control"]) == (True, False, True)
    assert replay.command.make_context("replay", ["--readonly"]).params["readonly"]
    assert serve.command.make_context("serve", ["--readonly"]).params["readonly"]
    assert Viewing(True, True, True).flags == ("--privacy", "--readonly")
    assert Viewing(control=True).flags == ("--control",)
    words = words_of([Address(URL)], options, True)
    assert attach_command(words).endswith(" --privacy --control")


@pytest.mark.parametrize(
    "wrong",
    [
        ["attach", URL, "--readonly", "--control"],
        ["serve", "--headless", "--readonly"],
        ["serve", "--headless", "--privacy"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(wrong: list[str]) -> None:
    assert main(wrong) == 2
