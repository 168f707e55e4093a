"""Which page stands for a tab: not all that can be watched has all of them."""

from __future__ import annotations

from typing import Final

from llmtop.screens.foreign import foreign_page
from llmtop.viewmodel import View

_FOREIGN: Final = {"overview": "foreign", "log": "log"}
_FLEET: Final = {"overview": "fleet", "log": "log"}


def page_for(view: View) -> str:
    """The name of the page that shows the tab which the viewer chose."""
    wanted = view.model.page
    if view.state.fleet.replicas and view.replica is None:
        return _FLEET.get(wanted, "foreign-absent")
    if view.replica is not None:
        return _FOREIGN.get(wanted, "foreign-absent")
    if view.state.foreign.last is not None:
        return foreign_page(view.state, wanted)
    return "startup" if wanted == "overview" and view.starting else wanted
