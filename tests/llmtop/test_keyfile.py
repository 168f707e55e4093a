"""Keys of one's own: bindings, footer, help and file follow, or one line says why not."""

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.keys import _character_to_key

from llmtop.app import LlmtopApp
from llmtop.cli import main
from llmtop.errors import LlmtopError
from llmtop.keyfile import _NAMED, keys_toml, load_keymap
from llmtop.keys import COMPARE_KEYS, KEYS, Keymap

DOC = Path(__file__).resolve().parents[2] / "docs" / "keys.md"


def keymap_of(folder: Path, text: str) -> Keymap:
    path = folder / "keys.toml"
    path.write_text(text)
    return load_keymap(path)


def test_what_is_printed_reads_back_as_the_registry(tmp_path: Path) -> None:
    keymap = keymap_of(tmp_path, keys_toml(Keymap()))
    assert set(keymap.changed) == {key.name for key in (*KEYS, *COMPARE_KEYS)}
    for mode, registry in (("live", KEYS), ("compare", COMPARE_KEYS)):
        assert [k.keys for k in keymap.keys_of(mode)] == [k.keys for k in registry]


def test_a_file_is_begun_once_and_never_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    assert main(["keys", "--write"]) == 0
    path = tmp_path / "config" / "keys.toml"
    assert load_keymap(path).changed.keys() == {key.name for key in (*KEYS, *COMPARE_KEYS)}
    path.write_text('load = "ctrl+l"\n')
    assert main(["keys", "--write"]) == 1
    assert "exists" in capsys.readouterr().err
    assert path.read_text() == 'load = "ctrl+l"\n'


def test_changed_keys_survive_printing_and_reading(tmp_path: Path) -> None:
    keymap = keymap_of(tmp_path, 'load = "ctrl+l"\nquit = ["Q", ";"]\n')
    again = keymap_of(tmp_path, keys_toml(keymap))
    assert [k.keys for k in again.keys_of("live")] == [k.keys for k in keymap.keys_of("live")]


def test_characters_are_named_as_textual_names_them() -> None:
    printable = string.punctuation + " "
    assert {c: _NAMED[c] for c in printable} == {c: _character_to_key(c) for c in printable}


def test_without_a_file_the_registry_holds(tmp_path: Path) -> None:
    assert load_keymap(tmp_path / "keys.toml") == Keymap()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('lod = "x"', "there is no action 'lod'; did you mean load?"),
        ('load = "p"', "p would be both load and prompt"),
        ('latency = "x"', "x would be both a-or-b and latency"),
        ('load = "hyper+l"', "load has 'hyper+l', which is no key"),
        ('load = ""', "load has '', which is no key"),
        ("load = 3", "load needs a key, or a list of keys"),
        ("load = []", "load needs a key, or a list of keys"),
        ('load = "ctrl+c"', "load cannot have ctrl+c"),
        ("load = ", "cannot read"),
    ],
)
def test_what_is_wrong_is_one_line_and_a_hint(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(LlmtopError) as caught:
        keymap_of(tmp_path, text)
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert "llmtop keys" in caught.value.hint
    assert caught.value.exit_code == 2


async def test_bindings_footer_and_help_follow_swapped_keys(
    tmp_path: Path, busy_source: Any, text_of: Callable[[Any], str]
) -> None:
    keymap = keymap_of(tmp_path, 'kv = "2"\nrequests = "3"\nhelp = "H"\nchart = ["C", "ctrl+t"]\n')
    app = LlmtopApp(busy_source, keymap=keymap)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("2")
        assert app.model.page == "kv"
        await pilot.press("3")
        assert app.model.page == "requests"
        before = app.model.chart
        await pilot.press("c")
        assert app.model.chart == before
        await pilot.press("ctrl+t")
        assert app.model.chart != before
        await pilot.pause()
        assert " H help" in text_of(app)
        assert "2 KV" in text_of(app)
        await pilot.press("H")
        await pilot.pause()
        assert "C ctrl-t" in text_of(app)
        await pilot.press("H")
        await pilot.pause()
        assert len(app.screen_stack) == 2


async def test_hints_on_the_screen_name_the_changed_keys(
    tmp_path: Path, empty_state: Any, source_of: Any, text_of: Callable[[Any], str]
) -> None:
    keymap = keymap_of(tmp_path, 'load = "G"\nprompt = "ctrl+o"\n')
    app = LlmtopApp(source_of(empty_state), keymap=keymap)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("2")
        await pilot.pause()
        assert "G starts a built-in load, ctrl-o asks one question" in text_of(app)


async def test_the_palette_offers_every_key_of_the_mode(busy_source: Any) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test():
        offered = {command.help for command in app.get_system_commands(app.screen)}
        assert offered == {key.help for key in KEYS if key.mode in ("any", "live")}


def test_the_command_prints_the_file_or_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    assert main(["keys", "--path"]) == 0
    path = Path(capsys.readouterr().out.strip())
    path.parent.mkdir(parents=True)
    path.write_text('load = "L"\nloop = "l"\n')
    assert main(["keys"]) == 0
    assert 'load = "L"' in capsys.readouterr().out
    path.write_text('nothing = "L"\n')
    assert main(["keys"]) == 2
    assert capsys.readouterr().err.startswith("error: keys.toml: there is no action 'nothing'")


def test_the_document_shows_the_registry() -> None:
    assert f"```toml\n{keys_toml(Keymap())}```" in DOC.read_text()
