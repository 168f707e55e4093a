"""What the prefix cache found, and what sharing saves."""

from __future__ import annotations

from llmtop.format import NONE, grouped, percent, size
from llmtop.viewmodel import View
from llmtop.widgets.bar import bar, stacked
from llmtop.widgets.pagefacts import context_tokens
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row
from profiler.kv_held import bytes_of
from profiler.state import SessionState


class PrefixFacts(Panel):
    """Pages by state; hit rate over the session; pages saved, cached and evicted."""

    about = (
        "How many prompt tokens the prefix cache had, and what sharing and caching save. Tail "
        "waste is room in pages that no token lies in."
    )
    inside = "pages"

    def title(self, view: View) -> Row:
        return (("Pages and prefix cache", "title"),)

    def body(self, view: View, width: int, height: int) -> list[Row]:
        return [*page_split(view.state, width), *hit_facts(view.state, width)]


def page_split(state: SessionState, width: int) -> list[Row]:
    """A bar of all pages by state, and the same in numbers."""
    pages = state.pages
    private = pages.used - pages.shared
    parts = (
        (private, "█", "used"),
        (pages.shared, "▓", "shared"),
        (pages.cached, "░", "cached"),
    )
    numbers: Row = (
        ("█", "used"),
        (f" private {grouped(private)} ", "text"),
        ("▓", "shared"),
        (f" shared {grouped(pages.shared)}", "text"),
    )
    rest: Row = (
        ("░", "cached"),
        (f" cached {grouped(pages.cached)} ", "text"),
        ("·", "faint"),
        (f" free {grouped(pages.free)}", "text"),
    )
    return [stacked(parts, pages.num_pages, width), numbers, rest]


def hit_facts(state: SessionState, width: int) -> list[Row]:
    """Hit rate by tokens since the session began, then what sharing and caching hold."""
    pages = state.pages
    rows = [_hits(pages.hit_tokens, pages.query_tokens, width)]
    rows.append(
        ((f"{grouped(pages.hit_tokens)} of {grouped(pages.query_tokens)} prompt tokens", "dim"),)
    )
    saved = sum(pages.num_pages_of(r) for r in state.requests.live) - pages.used
    wide = pages.forms.wide_pages()
    wide_shared = sum(max(0, pages.refs[page] - 1) for page in wide)
    wide_cached = sum(not pages.refs[page] for page in wide)
    rows.append(_amount("saved by sharing", max(0, saved), wide_shared, state))
    rows.append(_amount("cached for reuse", pages.cached, wide_cached, state))
    rows.append(_tail_waste(state))
    preempted = state.requests.num_preemptions
    rows.append(
        (
            ("evicted ", "dim"),
            (grouped(pages.evictions), "value"),
            (" pages, preempted ", "dim"),
            (f"{preempted}x", "warn" if preempted else "value"),
        )
    )
    return rows


def _tail_waste(state: SessionState) -> Row:
    """Room in pages that requests hold and no token lies in, of all that they hold."""
    if state.session is None:
        return (("tail waste ", "dim"), (NONE, "value"))
    block_size, room, held = state.session.block_size, 0, 0
    for request in state.requests.live.values():
        num_pages = state.pages.num_pages_of(request.request)
        if not request.preemptions:  # of others it is not known which tokens were computed again
            held += num_pages * block_size
            room += max(0, num_pages * block_size - context_tokens(request))
    share = percent(room, held)
    return (("tail waste ", "dim"), (share, "value"), (f" {grouped(room)} tokens of room", "dim"))


def _hits(hit_tokens: int, query_tokens: int, width: int) -> Row:
    if not query_tokens:
        return (("hit rate ", "dim"), ("-- ", "value"), ("nothing looked up yet", "dim"))
    head = f"{percent(hit_tokens, query_tokens):>4} "
    room = max(0, width - 9 - len(head))
    return (
        ("hit rate ", "dim"),
        (head, "value"),
        *bar(hit_tokens, query_tokens, min(16, room), "cached"),
    )


def _amount(label: str, num_pages: int, num_wide: int, state: SessionState) -> Row:
    session = state.session
    told = session is not None and session.page_bytes
    held = f" = {size(bytes_of(session, num_pages, num_wide))}" if session and told else ""
    return ((f"{label} ", "dim"), (grouped(num_pages), "value"), (f" pages{held}", "dim"))
