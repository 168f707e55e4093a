"""How close the engine is to what its device can do, in one line."""

from __future__ import annotations

from llmtop.format import NONE, metric, percent
from llmtop.viewmodel import View
from llmtop.widgets.rows import Row, joined, width_of


def nearness(view: View, width: int) -> Row:
    """Memory traffic and arithmetic while the device computes, and their shares of its ceilings;
    the ceilings themselves where `width` has room for them."""
    whole = _line(view, True)
    return whole if width_of(whole) <= width else _line(view, False)


def _line(view: View, ceilings: bool) -> Row:
    session, rates = view.state.session, view.state.roofline.rates
    read = matmul = None
    if session is not None and ceilings:
        read, matmul = session.read_bytes_per_s, session.matmul_flops_per_s
    if rates is None:
        return joined(
            (_part("reads", None, "B/s", None, read), _part("math", None, "", None, matmul))
        )
    return joined(
        (
            _part("reads", rates.mem_bytes_per_s, "B/s", rates.read_share, read),
            _part("math", rates.flops_per_s, "FLOP/s", rates.matmul_share, matmul),
        )
    )


def _part(
    name: str, rate: float | None, unit: str, share: float | None, ceiling: float | None
) -> Row:
    row: Row = ((f"{name} ", "dim"), (metric(rate, unit), "value"))
    if rate is None:
        return row
    # Above its ceiling: that was measured too low, or caches answered for the memory.
    doubt = share is not None and share > 1
    text = NONE if share is None else percent(share, 1.0) + ("?" if doubt else "")
    row += ((f" {text}", "warn" if doubt else "value"),)
    return row if ceiling is None else (*row, (f" of {metric(ceiling, unit)}", "dim"))
