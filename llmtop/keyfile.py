"""The viewer's own keys: `keys.toml` in the config folder, an action's name and its key a line."""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Final

from textual.keys import Keys

from llmtop.errors import LlmtopError
from llmtop.keys import COMPARE_KEYS, KEYS, Key, Keymap
from llmtop.paths import config_dir

NAME: Final = "keys.toml"
_HINT: Final = "llmtop keys prints every action with its key"
_MODES: Final = ("live", "replay", "fleet", "compare")
# Textual's name of each key that prints a character, as `Key.keys` spells it.
_NAMED: Final = {
    " ": "space", "/": "slash", "+": "plus", "-": "minus", "_": "underscore", "@": "at",
    ",": "comma", ".": "full_stop", "[": "left_square_bracket", "]": "right_square_bracket",
    "{": "left_curly_bracket", "}": "right_curly_bracket", "(": "left_parenthesis",
    ")": "right_parenthesis", "<": "less_than_sign", ">": "greater_than_sign",
    "!": "exclamation_mark", "?": "question_mark", "=": "equals_sign", ":": "colon",
    ";": "semicolon", "'": "apostrophe", '"': "quotation_mark", "#": "number_sign",
    "$": "dollar_sign", "%": "percent_sign", "&": "ampersand", "*": "asterisk",
    "^": "circumflex_accent", "`": "grave_accent", "|": "vertical_line", "~": "tilde",
    "\\": "backslash",
}  # fmt: skip
_CHARACTERS: Final = {name: character for character, name in _NAMED.items()}
_SHOWN: Final = {
    "up": "↑", "down": "↓", "left": "←", "right": "→", "pageup": "PgUp", "pagedown": "PgDn",
    "home": "Home", "end": "End", "enter": "Enter", "escape": "Esc", "tab": "Tab",
    "space": "space", "backspace": "Bksp", "delete": "Del", "insert": "Ins",
}  # fmt: skip
_SPECIAL: Final = frozenset(key.value for key in Keys if len(key.value) > 1 and key.value[0] != "<")
# `ctrl+c` always ends the program, `ctrl+p` opens the list of commands; help is closed by Esc.
_RESERVED: Final = frozenset({"ctrl+c", "ctrl+p"})


def load_keymap(path: Path | None = None) -> Keymap:
    """The keymap of `keys.toml`, or the registry's own where there is no such file.

    Raises: LlmtopError for a file that cannot be read, an action or a key that does not exist, and
    a key that two actions of one screen would share.
    """
    path = path or config_dir() / NAME
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except FileNotFoundError:
        return Keymap()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _wrong(f"cannot read {path}: {error}") from None
    keymap = Keymap({name: _keys_of(name, value) for name, value in table.items()})
    for mode in _MODES:
        _refuse_conflicts(keymap, mode)
    return keymap


def begin_keys(path: Path) -> None:
    """Writes the registry's keys to `path`, which must not be there yet: a file is one's own.

    Raises: LlmtopError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(keys_toml(Keymap()))
    except FileExistsError:
        raise LlmtopError(f"{path} exists", "edit it, or move it away first") from None
    except OSError as error:
        raise LlmtopError(f"cannot write {path}: {error.strerror}") from None


def keys_toml(keymap: Keymap) -> str:
    """Every action of `keymap` as `keys.toml` spells it, under the heads of the help."""
    lines: list[str] = []
    seen: set[str] = set()
    for head, keys in chain(keymap.groups("live").items(), keymap.groups("compare").items()):
        new = [key for key in keys if key.name not in seen]
        seen.update(key.name for key in new)
        if new:
            lines += ["", f"# {head}", *map(_line, new)]
    return "\n".join(lines[1:]) + "\n"


def shown_key(key: str) -> str:
    """`key`, spelled as Textual does, as a person reads it."""
    *modifiers, last = key.split("+")
    short = "".join("S-" if modifier == "shift" else f"{modifier}-" for modifier in modifiers)
    return short + (_SHOWN.get(last) or _CHARACTERS.get(last, last))


def _line(key: Key) -> str:
    keys = [f'"{_CHARACTERS.get(k, k) if k != "space" else k}"' for k in key.keys.split(",")]
    value = keys[0] if len(keys) == 1 else f"[{', '.join(keys)}]"
    mode = "" if key.mode == "any" else f" ({key.mode})"
    return f"{f'{key.name} = {value}':<34} # {key.help}{mode}"


def _keys_of(name: str, value: object) -> tuple[str, str]:
    """What TOML has for the action, as (keys, shown). Raises: LlmtopError."""
    names = [key.name for key in (*KEYS, *COMPARE_KEYS)]
    if name not in names:
        near = get_close_matches(name, names, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise _wrong(f"{NAME}: there is no action {name!r}{meant}")
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not given:
        raise _wrong(f"{NAME}: {name} needs a key, or a list of keys")
    keys = [_spelled(name, key) for key in given]
    return ",".join(keys), " ".join(map(shown_key, keys))


def _spelled(name: str, key: object) -> str:
    """The key in Textual's spelling. Raises: LlmtopError."""
    if isinstance(key, str):
        *modifiers, last = [key] if len(key) == 1 else key.split("+")
        last = _NAMED.get(last, last)
        known = last in _SPECIAL or last in _CHARACTERS or (len(last) == 1 and last.isalnum())
        spelled = "+".join((*modifiers, last))
        if known and {"ctrl", "shift", "alt"} >= set(modifiers) and spelled not in _RESERVED:
            return spelled
        if spelled in _RESERVED:
            raise _wrong(f"{NAME}: {name} cannot have {spelled}, which is always the program's")
    raise _wrong(f"{NAME}: {name} has {key!r}, which is no key")


def _refuse_conflicts(keymap: Keymap, mode: str) -> None:
    taken: dict[str, str] = {}
    for key in keymap.keys_of(mode):
        if key not in keymap.offered(mode) and mode != "compare":
            continue
        for one in key.keys.split(","):
            if one in taken:
                text = f"{NAME}: {shown_key(one)} would be both {taken[one]} and {key.name}"
                raise _wrong(text, "give one of them another key; " + _HINT)
            taken[one] = key.name


def _wrong(message: str, hint: str = _HINT) -> LlmtopError:
    return LlmtopError(message, hint, exit_code=2)
