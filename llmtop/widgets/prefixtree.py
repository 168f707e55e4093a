"""The prefixes that requests have in common, as a tree."""

from __future__ import annotations

from typing import Final

from llmtop.format import grouped, short, size
from llmtop.viewmodel import View
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row
from profiler.folds.pages import Pages
from profiler.folds.prefixes import Prefix, prefixes
from profiler.kv_held import bytes_of

_BRANCH: Final = 11
_MAX_DEPTH: Final = 5


class PrefixTree(Panel):
    """One line a run of pages that are reused together; those of the selected request light up."""

    about = (
        "Prompts that requests have in common, as a tree: tokens, references now, hits so far, "
        "and the first page. Those of the selected request light up."
    )
    inside = "pages"

    def __init__(self, *, id: str, top: str = "┌┐") -> None:
        super().__init__(id=id, top=top)
        self._of: tuple[Pages, int] | None = None
        self._found: list[Prefix] = []

    def title(self, view: View) -> Row:
        return (("Reused prefixes", "title"),)

    def note(self, view: View) -> str:
        found = self._prefixes(view.state.pages)
        return f"{grouped(sum(len(prefix.pages) for prefix in found))} pages" if found else ""

    def body(self, view: View, width: int, height: int) -> list[Row]:
        found = self._prefixes(view.state.pages)
        if not found:
            return [(("no page was found in the cache yet", "dim"),)]
        rows: list[Row] = [((f"{'tokens':<{_BRANCH}} refs   hits     size  page", "dim"),)]
        shown = found[: height - 2] if len(found) > height - 1 else found
        rows += [_line(prefix, view) for prefix in shown]
        if len(shown) < len(found):
            rows.append(((f"  and {grouped(len(found) - len(shown))} more", "dim"),))
        return rows

    def _prefixes(self, pages: Pages) -> list[Prefix]:
        """Worked out anew when the pages have changed."""
        if self._of is None or self._of[0] is not pages or self._of[1] != pages.version:
            self._of, self._found = (pages, pages.version), prefixes(pages)
        return self._found


def _line(prefix: Prefix, view: View) -> Row:
    session, count, first = view.state.session, len(prefix.pages), prefix.pages[0]
    num_wide = sum(map(view.state.pages.forms.is_wide, prefix.pages))
    num_bytes = bytes_of(session, count, num_wide) if session else 0
    block_size = session.block_size if session else 0
    branch = "  " * min(prefix.depth - 1, _MAX_DEPTH) + "└ " if prefix.depth else ""
    tokens = f"{branch}{grouped(count * block_size)}"
    chosen = view.model.selected
    mine = chosen is not None and first in view.state.pages.held(chosen)
    role = "select" if mine else "text" if prefix.refs else "cached"
    numbers = f"{short(prefix.refs):>5} {short(prefix.hits):>6} {size(num_bytes):>8}"
    return ((f"{tokens:<{_BRANCH}}", role), (numbers, "value"), (f" {first:>5}", "dim"))
