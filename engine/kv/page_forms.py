"""In which form each page of a packed cache is, and the changes of it."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from engine.kv.runs import RunLog
from profiler.events import PageForm

Form = Literal["hot", "sink", "packed"]
NO_FORM: Final = 0
# As PageForm has them. Their places here are what `PageForms` remembers.
_FORMS: Final[tuple[str, ...]] = ("", "hot", "sink", "packed")
_WIDE: Final = (_FORMS.index("hot"), _FORMS.index("sink"))
_OPERATIONS: Final[dict[Form, str]] = {"hot": "widen", "sink": "keep", "packed": "pack"}


class PageForms:
    """Numbers only, no tensors. A page has no form before it is written to. Changes go to `runs`;
    that a free page has none is told by what made it free."""

    def __init__(self, num_pages: int, runs: RunLog) -> None:
        self._runs = runs
        self._forms = bytearray(num_pages)

    def turn(self, page: int, form: Form, request: int) -> None:
        self._forms[page] = _FORMS.index(form)
        self._runs.add(_OPERATIONS[form], page, request)

    def clear(self, page: int) -> None:
        self._forms[page] = NO_FORM

    def of(self, page: int) -> str:
        """ "" before the page is written to."""
        return _FORMS[self._forms[page]]

    def wide_pages(self) -> set[int]:
        """Those that are hot or sinks."""
        return {page for page, form in enumerate(self._forms) if form in _WIDE}

    def spans(self) -> tuple[PageForm, ...]:
        """Every page that has one, neighbours of the same merged."""
        forms = np.frombuffer(self._forms, np.uint8)
        if not len(forms):
            return ()
        firsts = np.concatenate(([0], np.flatnonzero(forms[1:] != forms[:-1]) + 1))
        counts = np.diff(np.append(firsts, len(forms)))
        columns = (firsts.tolist(), counts.tolist(), forms[firsts].tolist())
        return tuple(
            PageForm(first, count, _FORMS[form])
            for first, count, form in zip(*columns, strict=True)
            if form != NO_FORM
        )
