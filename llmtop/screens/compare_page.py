"""The Compare tab: the session on the screen held against a recording of this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from textual import on
from textual.app import ComposeResult

from llmtop.commands.session_files import session_files
from llmtop.compare import words
from llmtop.compare.choice import Choice
from llmtop.compare.onscreen import OnScreen, held_against, read_sides
from llmtop.compare.pairing import Pairing
from llmtop.compare.written import FORMS, written
from llmtop.errors import LlmtopError
from llmtop.paths import sessions_dir
from llmtop.screens.compare_board import CompareBoard
from llmtop.screens.page import Page
from llmtop.sources.base import Source
from llmtop.viewfile import save_new
from llmtop.viewmodel import View
from llmtop.widgets.compareworst import CompareWorst
from llmtop.widgets.sessionlist import SessionList
from profiler.compare.comparison import Comparison
from profiler.compare.regressions import Regression
from profiler.errors import ProfilerError
from profiler.session.listing import SessionInfo, session_info

_READING: Final = "reading both recordings"


class ComparePage(Page):
    """The list of recordings, or once one is chosen the board. Files are read, and compared, in
    threads: no frame waits for them."""

    def __init__(self, source: Source, *, id: str) -> None:
        super().__init__(id=id)
        self._on_screen = OnScreen(source)
        self._pairing = Pairing()
        self._list = SessionList(self._pairing, self._on_screen, id="compare-sessions")
        self._choice: Choice | None = None
        self._board: CompareBoard | None = None
        self._shown: View | None = None

    def compose(self) -> ComposeResult:
        yield self._list

    def on_show(self) -> None:
        if self._board is None:
            self._look()

    def show(self, view: View) -> None:
        self._shown = view
        comparison = self._pairing.comparison
        if self._choice is not None and comparison is not None:
            self._choice.comparison = view.model.privacy.comparison(comparison)
        super().show(view)

    def leave(self) -> None:
        super().leave()
        self._shown = None

    def lay_out(self, width: int, height: int) -> None:
        self._list.compact = width < 100
        if self._board is not None:
            self._board.lay_out(width, height)

    # Keys

    def move(self, view: View, by: int) -> None:
        if self._board is None:
            self._pairing.move(by)
        else:
            self._board.move(by)

    def scroll_metrics(self, view: View, by: int) -> None:
        if self._board is not None:
            self._board.scroll_metrics(by)

    def scroll_worst(self, view: View, by: int) -> None:
        if self._board is not None:
            self._board.scroll_worst(by)

    def chart(self, view: View, by: int) -> None:
        if self._choice is not None:
            self._choice.next_latency(by)

    def open(self, view: View) -> None:
        """The selected recording as A or, on the board, the selected request where it is here."""
        if self._choice is not None:
            self._open_request(view, self._choice.selected)
            return
        info = self._pairing.selected
        if info is None:
            return
        self._pairing.choose(info.path)
        if info.problem:
            self._pairing.tell(info.problem)
        else:
            self._compare(anew=True)

    def forms(self) -> tuple[str, ...]:
        return () if self._choice is None else FORMS

    def save(self, view: View, form: str, folder: Path) -> Path:
        """The comparison on the board, as `llmtop compare` writes it."""
        assert self._choice is not None
        text = written(self._choice.comparison, form)
        return save_new(folder, f"compare.{form}", text.encode() + b"\n")

    def back(self, view: View) -> bool:
        """From the board to the list; in the list, whatever is said goes away."""
        pairing = self._pairing
        was_told = bool(pairing.told or pairing.working)
        self.workers.cancel_group(self, "compare")
        pairing.forget()
        if self._board is None:
            return was_told
        self._close_board()
        self._look()
        return True

    def order(self, order: str) -> None:
        """ "swap", "refresh" or "anyway"; nothing where no recording is chosen."""
        pairing = self._pairing
        if order == "swap" and pairing.sides is not None:
            pairing.swapped = not pairing.swapped
            self._compare(anew=False)
        elif order == "refresh" and pairing.path is not None:
            self._compare(anew=True)
        elif order == "refresh":
            self._look()
        elif order == "anyway" and pairing.refused:
            pairing.anyway = True
            self._compare(anew=False)

    def _open_request(self, view: View, pair: Regression | None) -> None:
        """Its page, where it ended if it is no longer, or not yet, in the picture."""
        if pair is None:
            self.notify("no request to open")
            return
        swapped = self._pairing.swapped
        request = pair.request_a if swapped else pair.request_b
        t_ns = pair.t_done_a_ns if swapped else pair.t_done_b_ns
        found = view.state.requests.get(request)
        if found is None or found.phase != "done":
            if not self._on_screen.reaches(t_ns):
                self.notify("that request is further back than what is kept in memory")
                return
            self.post_message(self.TimeChosen(t_ns))
        view.model.selected = request
        view.model.open_request()

    # Work

    def _look(self) -> None:
        self.run_worker(self._looked(), group="look", exclusive=True)

    async def _looked(self) -> None:
        """Newest first; at the first look each stands in the list as soon as it was read."""
        first, found = self._pairing.sessions is None, list[SessionInfo]()
        for path in reversed(await asyncio.to_thread(session_files, sessions_dir())):
            found.append(await asyncio.to_thread(session_info, path))
            if first:
                self._pairing.list_anew(found)
        self._pairing.list_anew(found)
        self._repaint()

    def _compare(self, anew: bool) -> None:
        """Read both sides if `anew`, and hold one against the other."""
        self._pairing.tell("")
        self._pairing.working = _READING
        self.run_worker(self._compared(anew), group="compare", exclusive=True)

    async def _compared(self, anew: bool) -> None:
        pairing = self._pairing
        if pairing.path is None:
            return
        try:
            if anew or pairing.sides is None:
                pairing.sides = await asyncio.to_thread(read_sides, pairing.path, self._on_screen)
            found = await asyncio.to_thread(held_against, pairing.sides, pairing.swapped)
        except (ProfilerError, LlmtopError) as error:
            self._close_board()
            pairing.tell(error.message, error.hint)
        else:
            await self._take(found)
        self._repaint()

    async def _take(self, found: Comparison) -> None:
        """Show `found`, or say why it is refused."""
        pairing = self._pairing
        refused = "" if pairing.anyway else words.refusal(found)
        pairing.tell(refused, refused=bool(refused))
        if refused:
            self._close_board()
            return
        pairing.comparison = found
        if self._choice is None:
            self._choice = Choice(found, here=True)
            self._board = CompareBoard(self._choice)
            self._list.display = False
            await self.mount(self._board)
        self._choice.side = "A" if pairing.swapped else "B"
        if not self.maximised:
            self.lay_out(self.size.width, self.size.height)

    def _close_board(self) -> None:
        if self._board is None:
            return
        self.maximise(None)
        self._board.remove()
        self._board = self._choice = None
        self._list.display = True

    def _repaint(self) -> None:
        if self._shown is not None and self.display:
            self.call_after_refresh(self.show, self._shown)

    # Mouse

    @on(SessionList.Picked)
    @on(CompareWorst.Picked)
    def _picked(self, event: SessionList.Picked | CompareWorst.Picked) -> None:
        view = self._shown
        if view is None:
            return
        if event.again:
            self.open(view)
        self.show(view)
