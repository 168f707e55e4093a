"""The registry of keys is what the program does, no more and no less."""

from llmtop.app import LlmtopApp
from llmtop.keys import COMPARE_KEYS, KEYS, Keymap
from llmtop.screens.dashboard import Dashboard


def test_every_key_has_an_action() -> None:
    for key in KEYS:
        name = key.action.removeprefix("app.").partition("(")[0]
        owner = LlmtopApp if key.action.startswith("app.") else Dashboard
        assert hasattr(owner, f"action_{name}"), key


def test_no_key_is_taken_twice_in_a_mode() -> None:
    for mode in ("live", "replay"):
        taken = [k for key in KEYS if key.mode in ("any", mode) for k in key.keys.split(",")]
        assert len(taken) == len(set(taken))


def test_a_name_is_one_action_and_the_same_keys_on_both_screens() -> None:
    for registry in (KEYS, COMPARE_KEYS):
        assert len({key.name for key in registry}) == len(registry)
    keys = {key.name: key.keys for key in KEYS}
    assert all(key.keys == keys.get(key.name, key.keys) for key in COMPARE_KEYS)


def test_the_help_knows_every_key() -> None:
    grouped = [k.shown for ks in Keymap().groups().values() for k in ks]
    assert sorted(grouped) == sorted(k.shown for k in KEYS)


def test_tabs_are_numbered_from_one_on() -> None:
    assert [digit for digit, _, _ in Keymap().pages()] == ["1", "2", "3", "4", "5", "6", "7"]


def test_the_footer_differs_between_live_and_replay() -> None:
    live, replay = ({k.label for k in Keymap().footer(mode)} for mode in ("live", "replay"))
    assert "load" in live - replay
    assert "faster" in replay - live
