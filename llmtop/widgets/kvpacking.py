"""How the KV cache is packed, and what that saves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from llmtop.format import NONE, grouped, percent, short, size
from llmtop.sanitize import clean_line
from llmtop.viewmodel import View
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row
from profiler.events import KvPacking, LayerFormat, SessionStart
from profiler.folds.pages import Pages
from profiler.kv_held import KvHeld, kv_held, packed_bits

# With its title; a narrow screen has room for all but the last line.
PACKING_HEIGHT: Final = 6
_LABEL: Final = 9


class KvPackingPanel(Panel):
    """Formats by layer, pages by form, effective bits, what is saved and how fast pages fill."""

    about = (
        "Full pages are packed to few bits; hot ones are being written, in a wide page of the "
        "engine's own type, and sinks stay there. Effective bits count all that pages in use take."
    )
    inside = "pages"

    def title(self, view: View) -> Row:
        packing = _packing(view.state.session)
        name = "" if packing is None else clean_line(packing.name)
        return (("Packed pages ", "title"), (name, "value"))

    def note(self, view: View) -> str:
        if _packing(view.state.session) is None:
            return ""
        return f"{short(view.state.throughput.packed_per_s)} sealed/s"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        state, session = view.state, view.state.session
        packing = _packing(session)
        if session is None or packing is None:
            return [(("pages are not packed", "dim"),)]
        held = kv_held(session, state.pages)
        return [
            _fact("K/V", clean_line(layers_told(packing.layers, width - _LABEL))),
            _forms(state.pages),
            _bits(session, packing, held),
            _saved(packing, held),
            _wide(packing, state.pages),
        ][:height]


def _packing(session: SessionStart | None) -> KvPacking | None:
    return None if session is None else session.packing


def layers_told(layers: Sequence[LayerFormat], width: int) -> str:
    """Runs of layers that are alike, as "30 layers int4/int4" or "0-1 int8/int8, 2-29 int4/int4";
    what `width` does not hold as "+3 more"."""
    runs: list[str] = []
    first = 0
    for (key, value), alike in groupby(layers, key=lambda layer: (layer.key, layer.value)):
        last = first + len(list(alike)) - 1
        runs.append(f"{first if first == last else f'{first}-{last}'} {key}/{value}")
        first = last + 1
    if len(runs) == 1:
        return f"{len(layers)} layers {layers[0].key}/{layers[0].value}"
    for count in range(len(runs), 0, -1):
        rest = f", +{len(runs) - count} more" if count < len(runs) else ""
        told = ", ".join(runs[:count]) + rest
        if len(told) <= width:
            return told
    return f"{len(runs)} runs of layers"


def _forms(pages: Pages) -> Row:
    forms = pages.forms
    return (
        ("pages".ljust(_LABEL), "dim"),
        (short(forms.packed), "value"),
        (" packed, ", "dim"),
        (short(forms.hot), "value"),
        (" hot, ", "dim"),
        (short(forms.sinks), "value"),
        (" sink", "dim"),
    )


def _bits(session: SessionStart, packing: KvPacking, held: KvHeld | None) -> Row:
    effective = NONE if held is None else f"{held.bits:.2f}"
    return (
        *_fact("bits", effective),
        (f" effective, {packed_bits(session, packing):.2f} packed", "dim"),
    )


def _saved(packing: KvPacking, held: KvHeld | None) -> Row:
    """Against the engine's own type, by name; a loss is said as one."""
    if held is None:
        return _fact("saved", NONE)
    saved, whole = held.saved_bytes, held.unpacked_bytes
    dtype = clean_line(packing.dtype)
    if saved < 0:
        return (*_fact("takes", f"{size(-saved)} more", "warn"), (f" than {dtype}", "dim"))
    return (
        *_fact("saved", f"{size(saved)} ({percent(saved, whole)})"),
        (f" of {dtype}", "dim"),
    )


def _wide(packing: KvPacking, pages: Pages) -> Row:
    num_wide, num_bytes = pages.forms.wide, pages.forms.wide * packing.wide_page_bytes
    return (
        *_fact("wide", grouped(num_wide)),
        (
            f" of {grouped(packing.num_wide_pages)} = {size(num_bytes)}",
            "dim",
        ),
    )


def _fact(label: str, text: str, role: str = "value") -> Row:
    return ((label.ljust(_LABEL), "dim"), (text, role))
