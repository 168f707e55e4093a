"""Every key, once: bindings, footer, help, palette and `keys.toml` are made from this list."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Key:
    """`keys` as Textual spells them; `shown` as a person reads them; `label` is the footer's word.

    `footer` orders the keys that the footer shows, 0 for none. `group` heads them in the help.
    `mode` is "any", "live", "replay" or "fleet": where the key does something. `name` stands for
    the action in `keys.toml`; what both screens have under one name has the same keys. What `acts`
    sends something to the server or writes a file, and is refused to who may only look.
    """

    keys: str
    shown: str
    action: str
    label: str
    help: str
    group: str
    footer: int = 0
    mode: str = "any"
    acts: bool = False

    @property
    def name(self) -> str:
        return self.label.lower().replace(" ", "-")


def _server(number: int) -> Key:
    digit, help = str(number), f"of several servers: the page of number {number}"
    return Key(digit, digit, f"target({number})", f"Server {number}", help, "Screens", 0, "fleet")


# They take the tabs' digits where several servers are watched.
FLEET_KEYS: Final = (
    Key("0", "0", "target(0)", "Fleet", "of several servers: all of them", "Screens", 0, "fleet"),
    *(_server(number) for number in range(1, 9)),
    Key("9", "9", "fleet_log", "Fleet log", "of several servers: the log", "Screens", 0, "fleet"),
)

KEYS: Final = (
    Key("1", "1", "page('overview')", "Overview", "the whole service at a glance", "Screens"),
    Key("2", "2", "page('requests')", "Requests", "one row per request", "Screens"),
    Key("3", "3", "page('kv')", "KV", "the page map of the KV cache", "Screens"),
    Key("4", "4", "page('gpu')", "GPU", "the devices, or this host without one", "Screens"),
    Key("5", "5", "page('steps')", "Steps", "one column per engine step", "Screens"),
    Key("6", "6", "page('log')", "Log", "what the server says", "Screens"),
    Key("7", "7", "page('compare')", "Compare", "this session against a recording", "Screens"),
    *FLEET_KEYS,
    Key("tab", "Tab", "focus_pane(1)", "next panel", "next panel", "Screens"),
    Key("shift+tab", "S-Tab", "focus_pane(-1)", "previous panel", "previous panel", "Screens"),
    Key("j,down", "j ↓", "move(1)", "down", "next row", "Moving"),
    Key("k,up", "k ↑", "move(-1)", "up", "previous row", "Moving"),
    Key("left", "←", "slide(-1)", "left", "previous cell of the map, token, or step", "Moving"),
    Key("right", "→", "slide(1)", "right", "next cell of the map, token, or step", "Moving"),
    Key("pageup", "PgUp", "move(-10)", "up 10", "ten rows up", "Moving"),
    Key("pagedown", "PgDn", "move(10)", "down 10", "ten rows down", "Moving"),
    Key("home", "Home", "move(-1000000)", "first", "first row", "Moving"),
    Key("end", "End", "move(1000000)", "last", "last row", "Moving"),
    Key("n", "n", "next(1)", "next slow", "the request's next slowest token", "Moving"),
    Key("N", "N", "next(-1)", "previous slow", "the one before it", "Moving"),
    Key("enter", "Enter", "open", "open", "open the selected request", "Moving", 3),
    Key("escape", "Esc", "back", "back", "back; clears the selection, then the filter", "Moving"),
    Key("slash", "/", "filter", "filter", "filter: ttft>200 & phase==decode, id~^r-9", "Table", 4),
    Key("s", "s", "sort(1)", "sort", "sort by the next column", "Table"),
    Key("S", "S", "reverse", "reverse", "reverse the order", "Table"),
    Key("c", "c", "chart(1)", "chart", "next chart", "Panels", 9),
    Key("m", "m", "maximise", "max", "the focused panel alone, and back", "Panels"),
    Key("plus,equals_sign", "+", "zoom(1)", "zoom in", "fewer pages per cell", "Panels"),
    Key("minus", "-", "zoom(-1)", "zoom out", "more pages per cell", "Panels"),
    Key("o", "o", "colouring", "colour", "KV map: owner, state, age, references, form", "Panels"),
    Key("v", "v", "level", "level", "log: next least level", "Panels"),
    Key("space", "space", "pause", "pause", "pause the picture; back to live, or play", "Time", 5),
    Key("comma", ",", "seek(-10)", "back 10 s", "ten seconds back, live too", "Time"),
    Key("full_stop", ".", "seek(10)", "on 10 s", "ten seconds on", "Time"),
    Key("left_square_bracket", "[", "step(-1)", "step back", "one step back, live too", "Time", 8),
    Key("right_square_bracket", "]", "step(1)", "step", "one step on", "Time"),
    Key("left_curly_bracket", "{", "mark(-1)", "previous marker", "previous marker", "Time"),
    Key("right_curly_bracket", "}", "mark(1)", "next marker", "next marker", "Time"),
    Key("g", "g", "goto", "go to", "a time (1:30), 50%, -30s, or step 1200", "Time", 8),
    Key("b", "b", "bookmark", "bookmark", "mark this moment", "Time", acts=True),
    Key("r", "r", "keep", "record", "record, with the last minutes", "Time", 0, "live", True),
    Key("L", "L", "repeat", "loop", "begin anew at the end", "Time", 0, "replay"),
    Key("less_than_sign", "<", "speed(-1)", "slower", "half the speed", "Time", 0, "replay"),
    Key("greater_than_sign", ">", "speed(1)", "faster", "twice the speed", "Time", 7, "replay"),
    Key("x", "x", "compare('swap')", "swap", "A and B change places", "Compare"),
    Key("u", "u", "compare('refresh')", "refresh", "with what came since", "Compare", 0, "live"),
    Key("a", "a", "compare('anyway')", "anyway", "compare different workloads too", "Compare"),
    Key("l", "l", "load", "load", "start or stop the built-in load", "Server", 6, "live", True),
    Key("p", "p", "prompt", "prompt", "ask the model", "Server", 7, "live", True),
    Key("T", "T", "kernels", "kernels", "capture the kernels of the next steps", "Server"),
    Key("O", "O", "observer", "observer", "measure what observing costs a step", "Server"),
    Key("e", "e", "export", "export", "this view into a file", "Program", acts=True),
    Key("y", "y", "copy", "copy", "the selected request's id", "Program"),
    Key("exclamation_mark", "!", "app.picture", "picture", "the screen, SVG", "Program", acts=True),
    Key("P", "P", "app.privacy", "privacy", "mask names, hosts, paths, prompts", "Program"),
    Key("t", "t", "app.next_theme", "theme", "next theme", "Program", 10),
    Key("question_mark", "?", "help", "help", "the focused panel, and all keys", "Program", 2),
    Key("ctrl+z", "^z", "app.suspend_process", "suspend", "to the shell; fg comes back", "Program"),
    Key("q", "q", "app.quit", "quit", "end the program (a served model stops too)", "Program", 1),
)

# What the comparison answers to: few of the dashboard's keys, and some of its own.
COMPARE_KEYS: Final = (
    Key("j,down", "j ↓", "move(1)", "down", "next request, or metric", "Moving"),
    Key("k,up", "k ↑", "move(-1)", "up", "previous request, or metric", "Moving"),
    Key("pageup", "PgUp", "move(-10)", "up 10", "ten rows up", "Moving"),
    Key("pagedown", "PgDn", "move(10)", "down 10", "ten rows down", "Moving"),
    Key("tab,shift+tab", "Tab", "other_table", "table", "metrics or requests", "Moving", 6),
    Key("enter", "Enter", "open", "open", "replay the request there; q comes back", "Moving", 3),
    Key("x", "x", "side", "A or B", "the recording that Enter opens", "Compare", 4),
    Key("c", "c", "latency(1)", "latency", "next latency: curves and requests", "Compare", 5),
    *(key for key in KEYS if key.action in ("app.next_theme", "help", "app.quit")),
)


def _is_in(key: Key, mode: str) -> bool:
    return key.mode in ("any", mode)


def _in_fleet(key: Key) -> bool:
    """Live, but for load and prompts, which go to one server, and the tabs, whose digits rest."""
    return key.action == "keep" or (_is_in(key, "fleet") and not key.action.startswith("page"))


PAGES: Final = tuple(
    (key.shown, key.action.split("'")[1], key.label)
    for key in KEYS
    if key.action.startswith("page")
)


@dataclass(frozen=True, slots=True)
class Keymap:
    """The registry, with the keys that the viewer gave to some actions.

    `changed` is name to (keys, shown), spelled as in `Key`. `readonly` offers no key that acts.
    """

    changed: dict[str, tuple[str, str]] = field(default_factory=dict)
    readonly: bool = False

    def keys_of(self, mode: str) -> list[Key]:
        """The keys of the dashboard ("live" and "replay") or of the comparison ("compare")."""
        return [self._mine(key) for key in (COMPARE_KEYS if mode == "compare" else KEYS)]

    def offered(self, mode: str) -> list[Key]:
        """Those of the screen's keys that do something in `mode`."""
        keys = [key for key in self.keys_of(mode) if not (self.readonly and key.acts)]
        return [key for key in keys if (_in_fleet(key) if mode == "fleet" else _is_in(key, mode))]

    def refused(self, action: object, mode: str) -> Key | None:
        """The key whose `action` would do something in `mode`, if only the viewer might."""
        keys = [key for key in self.keys_of(mode) if key.mode in ("any", mode) and key.acts]
        return next((key for key in keys if self.readonly and key.action == action), None)

    def footer(self, mode: str) -> list[Key]:
        """The footer's keys in order, for "live", "replay" or "compare"."""
        shown = [key for key in self.offered(mode) if key.footer]
        return sorted(shown, key=lambda key: key.footer)

    def groups(self, mode: str = "live") -> dict[str, list[Key]]:
        """All keys of the registry for `mode`, under the heads that the help shows."""
        heads: dict[str, list[Key]] = {}
        for key in self.keys_of(mode):
            heads.setdefault(key.group, []).append(key)
        return heads

    def pages(self) -> list[tuple[str, str, str]]:
        """Of each tab: its key as shown, its page, its label."""
        tabs = [key for key in self.keys_of("live") if key.action.startswith("page")]
        return [(key.shown, key.action.split("'")[1], key.label) for key in tabs]

    def servers(self) -> list[tuple[str, Key]]:
        """Of several servers' tabs: each key as shown, and the key itself."""
        mine = [self._mine(key) for key in FLEET_KEYS]
        return [(key.shown, key) for key in mine]

    def shown(self, name: str) -> str:
        """The key of the action `name` of the dashboard or the comparison, as a person reads it."""
        return next(self._mine(key).shown for key in (*KEYS, *COMPARE_KEYS) if key.name == name)

    def _mine(self, key: Key) -> Key:
        if key.name not in self.changed:
            return key
        keys, shown = self.changed[key.name]
        return replace(key, keys=keys, shown=shown)
