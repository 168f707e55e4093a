"""All that is known about the page under the cursor, and what happened to it."""

from __future__ import annotations

from typing import Final

from llmtop.format import NONE, grouped, percent, seconds, short_name
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.ownercolours import own_role
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, fit, joined_within
from profiler.folds.pagejournal import OPERATIONS, PageEntry
from profiler.folds.request_view import RequestView
from profiler.state import SessionState

_STATE_WORDS: Final = {
    "free": "free",
    "open": "filling, private",
    "used": "full, private",
    "cached": "cached: full, evictable",
}
_STORY_WORDS: Final = {
    "alloc": "allocated by",
    "share": "shared by",
    "seal": "full, findable",
    "release": "released by",
    "evict": "evicted",
    "widen": "being written, wide",
    "keep": "a sink: stays wide",
    "pack": "packed",
}
_FORM_WORDS: Final = {"": "", "hot": ", being written", "sink": ", wide sink", "packed": ", packed"}
_LABEL: Final = 9
_NAME: Final = 12


class PageFacts(Panel):
    """Cursor page: state, owner, who references it, tokens in it, when it last changed."""

    about = (
        "The page under the map's cursor: who holds it, how full it is, and what happened to "
        "it, the newest first."
    )
    own_keys = (
        "left: previous cell of the map",
        "right: next cell of the map",
        "open: the request that owns the page",
    )
    inside = "pages"

    def title(self, view: View) -> Row:
        page = view.model.cursor_page
        if not 0 <= page < view.state.pages.num_pages:
            return (("Page", "title"),)
        return (("Page ", "title"), (grouped(page), "value"))

    def body(self, view: View, width: int, height: int) -> list[Row]:
        page = view.model.cursor_page
        if not 0 <= page < view.state.pages.num_pages:
            return [(("arrows move over the map", "dim"),)]
        facts = page_facts(view.state, page, width)
        return [*facts, *page_story(view.state, page, height - len(facts))]


def page_facts(state: SessionState, page: int, width: int) -> list[Row]:
    pages = state.pages
    refs, sealed = pages.refs[page], pages.sealed_flags[page]
    name = pages.state(page)
    word = f"{'full' if sealed else 'filling'}, shared" if refs > 1 else _STATE_WORDS[name]
    rows = [_fact("state", word), _owner(state, page)]
    rows.append(_fact("refs", _references(state, page, refs)))
    rows.append(_fact("tokens", f"{_tokens(state, page)}{_FORM_WORDS[pages.forms.of(page)]}"))
    age = _since(state, pages.t_alloc_ns[page])
    touched_ns = pages.t_touch_ns[page]
    changed = f"changed {_since(state, touched_ns)} ago" if touched_ns else "never changed"
    when = [((age, "value"),), ((changed, "dim"),)]
    return [*rows, (*_fact("age", ""), *joined_within(when, width - _LABEL))]


def page_story(state: SessionState, page: int, height: int) -> list[Row]:
    """At most `height` lines, newest change first; the last one says where memory ends."""
    story = state.pages.journal.story(page)
    rows = [_told(state, entry) for entry in story]
    if not rows and not state.pages.t_touch_ns[page]:
        rows = [(("never used", "dim"),)]
    elif not story or OPERATIONS[story[-1].op] != "alloc":
        rows.append((("older changes are not kept", "dim"),))
    return rows[: max(0, height)]


def _told(state: SessionState, entry: PageEntry) -> Row:
    op = OPERATIONS[entry.op]
    who = f" {_name(state, entry.request)}" if _STORY_WORDS[op].endswith("by") else ""
    ago = f"{seconds(state.t_ns - entry.t_ns):>6} ago "
    return ((ago, "dim"), (f"{_STORY_WORDS[op]}{who}", "value" if op == "alloc" else "text"))


def _since(state: SessionState, t_ns: int) -> str:
    return seconds(state.t_ns - t_ns) if t_ns else NONE


def _fact(label: str, text: str, role: str = "value") -> Row:
    return ((label.ljust(_LABEL), "dim"), (text, role))


def _owner(state: SessionState, page: int) -> Row:
    owner = state.pages.owners[page]
    if not owner:
        return _fact("owner", "nobody", "dim")
    request = state.requests.get(owner)
    phase = f" {request.phase}" if request else " ended"
    mark = ("█ ", own_role(owner))
    return (("owner".ljust(_LABEL), "dim"), mark, (_name(state, owner), "value"), (phase, "dim"))


def _name(state: SessionState, request: int) -> str:
    view = state.requests.get(request)
    if view is None:
        return f"request {request}"
    return fit(clean_line(short_name(view.name)), _NAME).rstrip()


def _references(state: SessionState, page: int, refs: int) -> str:
    if not refs:
        return "0"
    names = [_name(state, r) for r in _holders(state, page)]
    return f"{refs}: {', '.join(names)}" if names else str(refs)


def _holders(state: SessionState, page: int) -> list[int]:
    return [r for r in state.requests.live if page in state.pages.held(r)]


def _tokens(state: SessionState, page: int) -> str:
    """Exact for full and free pages, and for a filling one where its owner's context is known."""
    block_size = state.session.block_size if state.session else 0
    pages = state.pages
    if not block_size:
        return NONE
    if pages.sealed_flags[page]:
        return f"{block_size} of {block_size}"
    if pages.refs[page] == 0:
        return f"0 of {block_size}"
    owner = state.requests.live.get(pages.owners[page])
    held = pages.pages_of(pages.owners[page])
    if owner is None or page not in held or owner.preemptions:
        return f"up to {block_size}"
    filled = context_tokens(owner) - block_size * held.index(page)
    filled = max(0, min(block_size, filled))
    return f"{filled} of {block_size} ({percent(filled, block_size)})"


def context_tokens(request: RequestView) -> int:
    """Tokens whose keys and values lie in pages: the newest token's come with the next step."""
    return request.computed_tokens + max(0, request.num_output_tokens - 1)
