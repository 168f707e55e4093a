"""The KV pages one by one: who holds them, how often, and when they were last touched."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec

from profiler.events import PageDelta, PageKeyframe, PageRun
from profiler.folds.packing import pack, unpack
from profiler.folds.pageforms import HOT, PACKED, SINK, PageForms
from profiler.folds.pagejournal import PageJournal

STATE_NAMES: Final = ("free", "open", "used", "shared", "cached")
FREE, OPEN, USED, SHARED, CACHED = range(5)
MAX_PAGES: Final = 1 << 22
MAX_CHANGES: Final = 8192


class PagesFrame(msgspec.Struct, array_like=True):
    refs: bytes
    owners: bytes
    sealed: bytes
    states: bytes
    t_touch_ns: bytes
    held: dict[int, list[int]]
    evictions: int
    hit_tokens: int
    query_tokens: int
    t_alloc_ns: bytes = b""
    journal: bytes = b""
    parents: bytes = b""
    hits: bytes = b""
    reused: list[int] = []
    forms: bytes = b""


# By whether anybody references the page and by whether it is sealed.
_STATES: Final = ((FREE, CACHED), (OPEN, USED))


def _state_of(refs: int, sealed: int) -> int:
    return SHARED if refs > 1 else _STATES[refs > 0][sealed]


class Pages:
    """One entry per page in each of `states` (index into STATE_NAMES), `refs`, `owners`,
    `sealed_flags`, `t_touch_ns` and `t_alloc_ns`, and in `forms`. "open" is a referenced page that
    is not full yet. The owner is the request that allocated the page and stays its owner while the
    page is cached; 0 is nobody. `t_alloc_ns` is when that was, 0 for a free page and where nobody
    told. `journal` holds the newest changes.

    `parents` is the page before it in the table of the request that took it last, -1 for the first;
    `hits` how often it was taken from the cache since it was allocated. `reused` are the pages with
    hits that can still be found, those taken last at the end.

    `version` counts the changes of this very object: of another one, draw everything.

    `hit_tokens` of `query_tokens` were found in the prefix cache when a request was scheduled for
    the first time; a request that comes back after a preemption is not counted again.
    """

    def __init__(self) -> None:
        self.states = bytearray()
        self.refs: array[int] = array("q")
        self.owners: array[int] = array("q")
        self.sealed_flags = bytearray()
        self.t_touch_ns: array[int] = array("q")
        self.t_alloc_ns: array[int] = array("q")
        self.parents: array[int] = array("i")
        self.hits: array[int] = array("i")
        self.reused: dict[int, None] = {}
        self.forms = PageForms()
        self.journal = PageJournal()
        self.evictions = 0
        self.hit_tokens = 0
        self.query_tokens = 0
        self.version = 0
        self._counts = [0] * len(STATE_NAMES)
        self._held: dict[int, dict[int, None]] = {}
        self._changes: deque[tuple[int, tuple[PageRun, ...]]] = deque(maxlen=MAX_CHANGES)
        self._complete_from = 0

    @property
    def num_pages(self) -> int:
        return len(self.states)

    @property
    def used(self) -> int:
        """Pages that some request references, shared ones included once."""
        return self._counts[OPEN] + self._counts[USED] + self._counts[SHARED]

    @property
    def shared(self) -> int:
        return self._counts[SHARED]

    @property
    def cached(self) -> int:
        return self._counts[CACHED]

    @property
    def free(self) -> int:
        return self._counts[FREE]

    @property
    def held_pages(self) -> int:
        """Pages that are not free."""
        return self.used + self.cached

    def state(self, page: int) -> str:
        return STATE_NAMES[self.states[page]]

    def held(self, request: int) -> Collection[int]:
        """What `pages_of` lists, without a copy: valid until the next event."""
        return self._held.get(request, {}).keys()

    def pages_of(self, request: int) -> list[int]:
        """The pages a request references, in the order in which it took them."""
        return list(self._held.get(request, ()))

    def num_pages_of(self, request: int) -> int:
        return len(self._held.get(request, ()))

    def changed_since(self, version: int) -> list[tuple[int, int]] | None:
        """Runs (page, count) that changed after `version`; None says redraw all of them."""
        if version < self._complete_from:
            return None
        runs = []
        for changed, done in reversed(self._changes):
            if changed <= version:
                break
            runs += [(run.page, run.count) for run in done]
        return runs

    def resize(self, num_pages: int) -> None:
        """Make room for `num_pages`. Raises: ValueError above 4 Mi pages."""
        if num_pages > MAX_PAGES:
            raise ValueError(f"{num_pages} pages are more than {MAX_PAGES}")
        more = num_pages - self.num_pages
        if more <= 0:
            return
        self.states.extend(bytes(more))
        self.sealed_flags.extend(bytes(more))
        for column in (self.refs, self.owners, self.t_touch_ns, self.t_alloc_ns):
            column.frombytes(bytes(8 * more))
        self.parents.extend((-1,) * more)
        self.hits.frombytes(bytes(4 * more))
        self._counts[FREE] += more
        self.forms.resize(more)
        self._redraw_all()

    def lookup(self, query_tokens: int, hit_tokens: int) -> None:
        self.query_tokens += query_tokens
        self.hit_tokens += hit_tokens

    def delta(self, event: PageDelta) -> None:
        """Operations that this version does not know and pages that cannot be are passed over."""
        self.version += 1
        done = [run for run in event.runs if self._run(run, event.t_ns)]
        self.journal.add(done, event.t_ns)
        if len(self._changes) == MAX_CHANGES:
            self._complete_from = self._changes[0][0]
        self._changes.append((self.version, tuple(done)))

    def _run(self, run: PageRun, t_ns: int) -> bool:
        operation = _OPERATIONS.get(run.op)
        first, count = run.page, run.count
        if operation is None or first < 0 or not 0 < count <= MAX_PAGES - first:
            return False
        if first + count > len(self.states):
            self.resize(first + count)
        if count == 1:
            self.t_touch_ns[first] = t_ns
            operation(self, (first,), run.request)
        else:
            self.t_touch_ns[first : first + count] = array("q", (t_ns,)) * count
            operation(self, range(first, first + count), run.request)
        return True

    def _alloc(self, pages: Sequence[int], request: int) -> None:
        refs, owners, sealed, states = self.refs, self.owners, self.sealed_flags, self.states
        counts, forms = self._counts, self.forms.flags
        held = self._held.setdefault(request, {})
        before = next(reversed(held), -1)
        for page in pages:
            held[page] = None
            refs[page], owners[page], sealed[page] = 1, request, 0
            self.parents[page], self.hits[page], before = before, 0, page
            self.t_alloc_ns[page] = self.t_touch_ns[page]
            self.reused.pop(page, None)
            if forms[page]:
                self.forms.clear(page)
            counts[states[page]] -= 1
            states[page] = OPEN
        counts[OPEN] += len(pages)

    def _share(self, pages: Sequence[int], request: int) -> None:
        held = self._held.setdefault(request, {})
        before = next(reversed(held), -1)
        for page in pages:
            held[page] = None
            self.refs[page] += 1
            # Of a page whose owner computed a twin of the one before it, this is the one to find.
            self.parents[page], before = before, page
            self.hits[page] += 1
            self.reused.pop(page, None)
            self.reused[page] = None
        self._settle(pages)

    def _seal(self, pages: Sequence[int], request: int) -> None:
        for page in pages:
            self.sealed_flags[page] = 1
        self._settle(pages)

    def _release(self, pages: Sequence[int], request: int) -> None:
        refs = self.refs
        held = self._held.get(request, {})
        for page in pages:
            held.pop(page, None)
            refs[page] = max(0, refs[page] - 1)
        if not held:
            self._held.pop(request, None)
        self._settle(pages)

    def _evict(self, pages: Sequence[int], request: int) -> None:
        self.evictions += len(pages)
        for page in pages:
            self.sealed_flags[page] = 0
            self.reused.pop(page, None)
        self._settle(pages)

    def _settle(self, pages: Sequence[int]) -> None:
        """Each page in the state that its references and its seal make."""
        refs, sealed, states, counts = self.refs, self.sealed_flags, self.states, self._counts
        for page in pages:
            held_by, before = refs[page], states[page]
            state = SHARED if held_by > 1 else _STATES[held_by > 0][sealed[page]]
            if state == before:
                continue
            states[page] = state
            counts[before] -= 1
            counts[state] += 1
            if state == FREE:
                self.owners[page] = self.t_alloc_ns[page] = 0
                if self.forms.flags[page]:
                    self.forms.clear(page)

    def keyframe(self, event: PageKeyframe) -> None:
        """Every page as the event says; who shares a page besides its owner is kept as it was."""
        num_pages = self.num_pages
        refs, owners = array("q", bytes(8 * num_pages)), array("q", bytes(8 * num_pages))
        sealed = bytearray(num_pages)
        for span in event.spans:
            first, count = span.page, span.count
            if count == 1 and 0 <= first < num_pages:
                refs[first], owners[first], sealed[first] = span.refs, span.owner, span.sealed
            elif 0 <= first and 0 < count <= num_pages - first:
                refs[first : first + count] = array("q", (span.refs,)) * count
                owners[first : first + count] = array("q", (span.owner,)) * count
                sealed[first : first + count] = bytes((span.sealed,)) * count
        same_forms = not self.forms.mend(event.forms)
        if same_forms and (refs, owners, sealed) == (self.refs, self.owners, self.sealed_flags):
            return
        for page, owner in enumerate(owners):
            if owner != self.owners[page]:
                self.t_alloc_ns[page] = 0
        self.refs, self.owners, self.sealed_flags = refs, owners, sealed
        self.states = bytearray(map(_state_of, refs, sealed))
        self._recount()
        self._drop_unreferenced()

    def _recount(self) -> None:
        self._counts = [self.states.count(state) for state in range(len(STATE_NAMES))]
        self._redraw_all()

    def _drop_unreferenced(self) -> None:
        for request, held in list(self._held.items()):
            kept = {page: None for page in held if self.refs[page] > 0}
            if kept:
                self._held[request] = kept
            else:
                del self._held[request]

    def _redraw_all(self) -> None:
        self.version += 1
        self._changes.clear()
        self._complete_from = self.version

    def freeze(self) -> PagesFrame:
        return PagesFrame(
            pack(self.refs),
            pack(self.owners),
            bytes(self.sealed_flags),
            bytes(self.states),
            pack(self.t_touch_ns),
            {request: list(held) for request, held in self._held.items()},
            self.evictions,
            self.hit_tokens,
            self.query_tokens,
            pack(self.t_alloc_ns),
            self.journal.freeze(),
            pack(self.parents),
            pack(self.hits),
            list(self.reused),
            self.forms.freeze(),
        )

    def thaw(self, frame: PagesFrame) -> None:
        """Raises: ValueError when the columns do not fit each other."""
        num_pages = len(frame.states)
        t_alloc = frame.t_alloc_ns or bytes(8 * num_pages)
        columns = [unpack(c, "q") for c in (frame.refs, frame.owners, frame.t_touch_ns, t_alloc)]
        if num_pages > MAX_PAGES or any(len(c) != num_pages for c in (*columns, frame.sealed)):
            raise ValueError("page columns of different lengths")
        if any(
            held and not 0 <= min(held) <= max(held) < num_pages for held in frame.held.values()
        ):
            raise ValueError("a request holds a page that does not exist")
        if not set(frame.sealed) <= {0, 1} or not set(frame.states) <= set(range(len(STATE_NAMES))):
            raise ValueError("a page in a state that does not exist")
        self.refs, self.owners, self.t_touch_ns, self.t_alloc_ns = columns
        self._thaw_reuse(frame)
        self.forms.thaw(frame.forms, num_pages)
        self.journal.thaw(frame.journal)
        self.states = bytearray(frame.states)
        self.sealed_flags = bytearray(frame.sealed)
        self._held = {request: dict.fromkeys(held) for request, held in frame.held.items()}
        self.evictions = frame.evictions
        self.hit_tokens = frame.hit_tokens
        self.query_tokens = frame.query_tokens
        self._recount()

    def _thaw_reuse(self, frame: PagesFrame) -> None:
        num_pages = len(frame.states)
        parents, hits = unpack(frame.parents, "i"), unpack(frame.hits, "i")
        if not frame.parents:
            parents, hits = array("i", (-1,)) * num_pages, array("i", bytes(4 * num_pages))
        known = all(0 <= page < num_pages for page in frame.reused)
        if not known or len(parents) != num_pages or len(hits) != num_pages:
            raise ValueError("a prefix of pages that do not exist")
        self.parents, self.hits, self.reused = parents, hits, dict.fromkeys(frame.reused)


_OPERATIONS: Final[dict[str, Callable[[Pages, Sequence[int], int], None]]] = {
    "alloc": Pages._alloc,
    "share": Pages._share,
    "seal": Pages._seal,
    "release": Pages._release,
    "evict": Pages._evict,
    "widen": lambda pages, those, request: pages.forms.turn(those, HOT),
    "keep": lambda pages, those, request: pages.forms.turn(those, SINK),
    "pack": lambda pages, those, request: pages.forms.turn(those, PACKED),
}
