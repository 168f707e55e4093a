"""Who holds how many pages, most first."""

from __future__ import annotations

from textual import events
from textual.message import Message

from llmtop.format import grouped, percent, short_name
from llmtop.viewmodel import View
from llmtop.widgets.bar import bar
from llmtop.widgets.ownercolours import own_role
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row, fit, joined_within
from profiler.folds.pages import Pages
from profiler.folds.request_view import RequestView

_COLUMNS = 35
_PHASE_WIDTH = 9


class Holders(Panel):
    """One line a request: its colour on the map, its pages, how many of them others use too."""

    about = (
        "Which request holds how many pages, and how many of them others use too. The colours "
        "are those of the map."
    )
    inside = "pages"

    class Picked(Message):
        """The line of a request was clicked; `again` if it was the selected one already."""

        def __init__(self, request: int, again: bool) -> None:
            super().__init__()
            self.request = request
            self.again = again

    def __init__(self, *, id: str, top: str = "┌┐", bottom: str = "") -> None:
        super().__init__(id=id, top=top, bottom=bottom)
        self._shown: list[int] = []

    def title(self, view: View) -> Row:
        return (("Pages by request", "title"),)

    def note(self, view: View) -> str:
        pages = view.state.pages
        return f"{percent(pages.used, pages.num_pages)} in use" if pages.num_pages else ""

    def body(self, view: View, width: int, height: int) -> list[Row]:
        pages = view.state.pages
        held = holders(list(view.state.requests.live.values()), pages)
        self._shown = []
        if not held:
            return [(("no request holds a page", "dim"),)]
        most = held[0][0]
        rows: list[Row] = [
            (("  id          ", "dim"), (_phase("phase", width), "dim"), ("  pages shared", "dim")),
        ]
        shown = held[: height - 2] if len(held) > height - 1 else held
        self._shown = [request.request for _, request in shown]
        rows += [
            _line(count, request, pages, view.model.selected, most, width)
            for count, request in shown
        ]
        rest = held[len(shown) :]
        if rest:
            more = sum(count for count, _ in rest)
            told = [f"  {len(rest)} more", f"with {grouped(more)} pages"]
            rows.append(joined_within([((text, "dim"),) for text in told], width, " "))
        return rows

    def on_click(self, event: events.Click) -> None:
        at = event.y - self.body_offset()[1] - 1
        if self._view is not None and 0 <= at < len(self._shown):
            request = self._shown[at]
            self.post_message(self.Picked(request, request == self._view.model.selected))


def holders(live: list[RequestView], pages: Pages) -> list[tuple[int, RequestView]]:
    """Requests that hold pages with their number, most first, then in order of arrival."""
    counted = [(pages.num_pages_of(r.request), r) for r in live]
    held = [item for item in counted if item[0]]
    held.sort(key=lambda item: (-item[0], item[1].request))
    return held


def num_shared(pages: Pages, request: int) -> int:
    """Pages of `request` that others reference too."""
    refs = pages.refs
    return sum(refs[page] > 1 for page in pages.held(request))


def _line(
    count: int, request: RequestView, pages: Pages, selected: int | None, most: int, width: int
) -> Row:
    role = "select" if request.request == selected else "text"
    shared = num_shared(pages, request.request)
    name = fit(short_name(request.name), 11)
    phase = _phase(request.phase, width)
    text = f"{name} {phase}{grouped(count):>7} {grouped(shared):>6}"
    own = own_role(request.request)
    room = width - _COLUMNS - 3
    return (
        ("█ ", own),
        (text, role),
        *(((" ", "text"), *bar(count, most, room, own)) if room > 3 else ()),
    )


def _phase(text: str, width: int) -> str:
    """Gives way first where a line does not hold all columns."""
    return text.ljust(_PHASE_WIDTH) if width >= _COLUMNS + 2 else ""
