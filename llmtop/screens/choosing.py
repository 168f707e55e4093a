"""Which page stands for a tab: not all that can be watched has all of them."""

from __future__ import annotations

from typing import Final

from llmtop.viewmodel import View

_FOREIGN: Final = {"overview": "foreign", "log": "log"}
_WITH_BLOCKS: Final = {**_FOREIGN, "kv": "blocks"}
_FLEET: Final = {"overview": "fleet", "log": "log"}


def page_for(view: View) -> str:
    """The name of the page that shows the tab which the viewer chose."""
    wanted = view.model.page
    if view.state.fleet.replicas and view.replica is None:
        return _FLEET.get(wanted, "foreign-absent")
    if view.state.foreign.last is not None or view.replica is not None:
        heard = view.state.blocks.begun is not None and view.replica is None
        return (_WITH_BLOCKS if heard else _FOREIGN).get(wanted, "foreign-absent")
    return "startup" if wanted == "overview" and view.starting else wanted
