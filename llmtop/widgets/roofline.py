"""The newest steps under their device's roof."""

from __future__ import annotations

from typing import Final

from llmtop.format import percent
from llmtop.viewmodel import View
from llmtop.widgets.panel import Panel
from llmtop.widgets.roofplot import Dot, Roof, roofplot
from llmtop.widgets.rows import Row
from llmtop.widgets.stepcolumns import chosen_step
from profiler.events import SessionStart, Step
from profiler.roofline import point_of

_STEPS: Final = 256
_UNMEASURED: Final = (
    "the device's ceilings were not measured:",
    "llmtop doctor --measure does it, when nothing else runs",
)


class Roofline(Panel):
    """A dot a step; the chosen one is a diamond, and the title says how near the roof it is."""

    about = (
        "Each step by its operations a byte and its operations a second, below what the device "
        "was measured to allow. ◆ is the chosen step."
    )
    own_keys = ("left: previous step", "right: next step")
    inside = "steps"

    def title(self, view: View) -> Row:
        return (("Roofline", "title"),)

    def note(self, view: View) -> str:
        step, session = chosen_step(view), view.state.session
        roof = _roof(session)
        point = None if step is None or session is None else point_of(session, step)
        if roof is None or point is None or step is None:
            return ""
        share = point.flops_per_s / roof.rate_at(point.intensity)
        held = "memory" if point.intensity < roof.ridge else "arithmetic"
        doubt = "?" if share > 1 else ""
        return f"◆ {percent(share, 1.0)}{doubt} of what {held} allows"

    def body(self, view: View, width: int, height: int) -> list[Row]:
        session = view.state.session
        roof = _roof(session)
        if session is None or roof is None:
            return [((text, "dim"),) for text in _UNMEASURED]
        dots = _dots(view, session)
        if not dots:
            return [(("no step whose work is known", "dim"),)]
        return roofplot(dots, roof, width, height)


def _roof(session: SessionStart | None) -> Roof | None:
    if session is None or not session.read_bytes_per_s or not session.matmul_flops_per_s:
        return None
    return Roof(session.read_bytes_per_s, session.matmul_flops_per_s)


def _dots(view: View, session: SessionStart) -> list[Dot]:
    """Oldest first, the chosen step last."""
    chosen = chosen_step(view)
    steps = [step for step in view.state.steps.newest(_STEPS) if step is not chosen]
    dots = [_dot(session, step, "•", _role(step)) for step in steps]
    if chosen is not None:
        dots.append(_dot(session, chosen, "◆", "key"))
    return [dot for dot in dots if dot is not None]


def _dot(session: SessionStart, step: Step, glyph: str, role: str) -> Dot | None:
    point = point_of(session, step)
    return None if point is None else Dot(point, glyph, role)


def _role(step: Step) -> str:
    return "prefill" if any(row.prefill_tokens for row in step.rows) else "decode"
