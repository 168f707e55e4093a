"""The prefixes that prompts of another server have in common, as a tree."""

from __future__ import annotations

from typing import Final

from llmtop.format import grouped, short
from llmtop.viewmodel import View
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row
from profiler.folds.hashedblocks import HashedBlocks
from profiler.folds.hashedprefixes import SharedPrefix, shared_prefixes

_BRANCH: Final = 14
_MAX_DEPTH: Final = 5


class PrefixesOf:
    """The prefixes of what was asked about last: worked out anew when the blocks have changed."""

    def __init__(self) -> None:
        self._blocks: tuple[HashedBlocks, int] | None = None
        self._found: list[SharedPrefix] = []

    def of(self, blocks: HashedBlocks) -> list[SharedPrefix]:
        known = self._blocks
        if known is None or known[0] is not blocks or known[1] != blocks.version:
            self._blocks, self._found = (blocks, blocks.version), shared_prefixes(blocks)
        return self._found


class SharedPrefixes(Panel):
    """One line a run of blocks up to where prompts part."""

    about = (
        "Prompts that begin alike, as a tree: the tokens up to where they part, in how many full "
        "blocks, how many ways it goes on, and the first block. A prompt that was sent twice and "
        "parts nowhere is not seen: KV events tell what is stored, not what is found."
    )

    def __init__(self, *, id: str, top: str = "┌┐", bottom: str = "") -> None:
        super().__init__(id=id, top=top, bottom=bottom)
        self._prefixes = PrefixesOf()

    def title(self, view: View) -> Row:
        return (("Shared prefixes", "title"),)

    def note(self, view: View) -> str:
        found = self._prefixes.of(view.state.blocks)
        return f"{grouped(sum(len(prefix.blocks) for prefix in found))} blocks" if found else ""

    def body(self, view: View, width: int, height: int) -> list[Row]:
        found = self._prefixes.of(view.state.blocks)
        if not found:
            return [(("no two prompts in the cache part after a full block", "dim"),)]
        rows: list[Row] = [((f"{'tokens':<{_BRANCH}} blocks   ways  block", "dim"),)]
        shown = found[: height - 2] if len(found) > height - 1 else found
        rows += [_line(prefix, view.model.cursor_page) for prefix in shown]
        if len(shown) < len(found):
            rows.append(((f"  and {grouped(len(found) - len(shown))} more", "dim"),))
        return rows


def _line(prefix: SharedPrefix, cursor: int) -> Row:
    branch = "  " * min(prefix.depth - 1, _MAX_DEPTH) + "└ " if prefix.depth else ""
    before = "" if prefix.first else "? + "
    role = "select" if cursor in prefix.blocks else "text"
    numbers = f"{short(len(prefix.blocks)):>6} {short(prefix.ways):>6}"
    tokens = f"{branch}{before}{grouped(prefix.tokens)}"
    return ((f"{tokens:<{_BRANCH}}", role), (f" {numbers}", "value"), _first(prefix))


def _first(prefix: SharedPrefix) -> tuple[str, str]:
    return (f" {prefix.blocks[0]:>6}", "dim")
