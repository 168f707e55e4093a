"""How full the KV cache is, and what the prefix cache saved."""

from __future__ import annotations

from llmtop.format import NONE, grouped, percent, size
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.bar import stacked
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, Span
from profiler.folds.pages import Pages

_STATES = (("private", "█", "used"), ("shared", "▓", "shared"), ("cached", "░", "cached"))


def kv_bar(pages: Pages, width: int) -> Row:
    """Every page in exactly `width` cells: private, shared, cached, free."""
    parts = [
        (float(count), glyph, role)
        for count, (_, glyph, role) in zip(_counts(pages), _STATES, strict=True)
    ]
    return stacked(parts, float(pages.num_pages), width)


def _counts(pages: Pages) -> tuple[int, int, int]:
    return pages.used - pages.shared, pages.shared, pages.cached


def kv_legend(pages: Pages) -> Row:
    """Each glyph of the bar with its name and share."""
    spans: list[Span] = []
    for count, (name, glyph, role) in zip(_counts(pages), _STATES, strict=True):
        spans += [(f"{glyph} ", role), (f"{name} ", "dim")]
        spans.append((f"{percent(count, pages.num_pages)}  ", "value"))
    return tuple(spans)


def prefix_hits(pages: Pages) -> Row:
    """The share of prompt tokens that was found in the prefix cache, over the session."""
    share = NONE if not pages.query_tokens else percent(pages.hit_tokens, pages.query_tokens)
    return (
        ("prefix hits ", "dim"),
        (share, "value"),
        (" of tokens, ", "dim"),
        (grouped(pages.evictions), "value"),
        (" evicted", "dim"),
    )


class KvUsage(Panel):
    about = (
        "Pages of the KV cache: private to one request, shared by several, cached for a later "
        "prompt, or free; and how much of the prompts was found in it."
    )
    inside = "pages"

    def title(self, view: View) -> Row:
        return (("KV cache", "title"),)

    def note(self, view: View) -> str:
        session, num_pages = view.state.session, view.state.pages.num_pages
        if session is None or not num_pages:
            return ""
        whole = f", {size(session.kv_bytes)}" if session.page_bytes else ""
        packed = f" {clean_line(session.packing.name)}" if session.packing else ""
        return f"{grouped(num_pages)}{packed} pages of {session.block_size}{whole}"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        pages = view.state.pages
        if not pages.num_pages:
            return [(("no pages yet", "dim"),)]
        bars = max(1, min(4, height - 3))
        rows: list[Row] = [kv_bar(pages, width)] * bars
        rows += [kv_legend(pages), _numbers(pages), prefix_hits(pages)]
        return rows[:height]


def _numbers(pages: Pages) -> Row:
    return (
        ("· free ", "dim"),
        (percent(pages.free, pages.num_pages), "value"),
        (",  ", "dim"),
        (grouped(pages.free + pages.cached), "value"),
        (" of ", "dim"),
        (grouped(pages.num_pages), "value"),
        (" unreferenced", "dim"),
    )
