"""Which page stands for a tab: not all that can be watched has all of them."""

from __future__ import annotations

from typing import Final

from llmtop.viewmodel import View
from profiler.state import SessionState

_ABSENT: Final = "foreign-absent"
_FOREIGN: Final = {"overview": "foreign", "log": "log"}
_FLEET: Final = {"overview": "fleet", "log": "log"}


def page_for(view: View) -> str:
    """The name of the page that shows the tab which the viewer chose."""
    wanted = view.model.page
    if view.state.fleet.replicas and view.replica is None:
        return _FLEET.get(wanted, _ABSENT)
    if view.replica is not None:
        return _FOREIGN.get(wanted, _ABSENT)
    if view.state.foreign.last is not None:
        return (_FOREIGN | _beside(view.state)).get(wanted, _ABSENT)
    return "startup" if wanted == "overview" and view.starting else wanted


def _beside(state: SessionState) -> dict[str, str]:
    """Pages of what is heard beside the server's own metrics."""
    pages = {}
    if state.blocks.begun is not None:
        pages["kv"] = "blocks"
    if state.gpus.devices or state.gpus.absent is not None:
        pages["gpu"] = "foreign-gpus-page"
    return pages
