"""Where the engine's memory went: weights, KV, activations, graphs, and what is not ours."""

from __future__ import annotations

from typing import Final

from llmtop.format import percent, size
from llmtop.viewmodel import View
from llmtop.widgets.bar import stacked
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row
from profiler.state import SessionState

_ROLES: Final = {
    "weights": ("█", "weights"),
    "kv": ("▓", "kv"),
    "activations": ("▒", "act"),
    "graphs": ("░", "graph"),
    "other": ("▚", "other"),
}


class MemorySplit(Panel):
    """A stacked bar of the whole device and a line for each part."""

    about = "The engine's memory in parts, of all that the device has, a line each."
    inside = "memory"

    def title(self, view: View) -> Row:
        total = view.state.memory.total_bytes
        return (("Memory ", "title"), (size(total) if total else "", "value"))

    def note(self, view: View) -> str:
        last = view.state.memory.last
        return "" if last is None else f"as the engine on {last.device} says"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        parts, total = view.state.memory.parts(), view.state.memory.total_bytes
        if not parts or not total:
            return [(("the engine has not said yet", "dim"),)]
        drawn = [(amount, *_ROLES[name]) for name, amount in parts]
        rows = [stacked(drawn, total, width)]
        rows += [_part(name, amount, total, view.state) for name, amount in parts]
        rest = total - sum(amount for _, amount in parts)
        if rest >= 0:
            known = view.state.memory.other_bytes is not None
            rows.append((("· ", "faint"), *_numbers("free" if known else "rest", rest, total)))
        return rows


def _part(name: str, amount: int, total: int, state: SessionState) -> Row:
    glyph, role = _ROLES[name]
    pages = state.pages
    aside = ""
    if name == "kv" and pages.num_pages:
        aside = f" {percent(pages.used, pages.num_pages)} used"
        last = state.memory.last
        if last is not None and last.kv_wide_bytes:
            aside += f", {size(last.kv_wide_bytes)} wide"
    return ((f"{glyph} ", role), *_numbers(name, amount, total), (aside, "dim"))


def _numbers(name: str, amount: int, total: int) -> Row:
    return (
        (f"{name:<13}", "dim"),
        (f"{size(amount):>9}", "value"),
        (f" {percent(amount, total):>4}", "dim"),
    )
