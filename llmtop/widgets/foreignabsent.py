"""What a metrics page cannot tell, and what would."""

from __future__ import annotations

from typing import Final

from llmtop.viewmodel import View
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import Row
from llmtop.widgets.wrapping import wrapped

_WHY: Final = {
    "requests": "{engine}'s metrics tell of all requests together and of none by itself. A proxy "
    "in front of it measures each one: llmtop proxy --upstream URL",
    "kv": "{engine}'s metrics tell how full the KV cache is, which the Overview shows, and not "
    "which block holds what. vLLM's KV events do: start it with --kv-events-config "
    '\'{{"enable_kv_cache_events": true, "endpoint": "tcp://*:5557", "replay_endpoint": '
    "\"tcp://*:5558\"}}' and attach with --kv-events 'tcp://*:5557,tcp://*:5558'",
    "gpu": "{engine}'s metrics do not tell of its GPUs. A DCGM exporter does: attach with "
    "--gpu-metrics http://HOST:9400",
    "compare": "Recordings are compared request by request, and {engine}'s metrics tell of none by "
    "itself.",
    "steps": "{engine}'s metrics do not tell of single engine steps.",
}


class ForeignAbsent(Panel):
    about = "Why this tab has nothing to show of such a server, and what would show it."

    def title(self, view: View) -> Row:
        return (("Not in its metrics", "title"),)

    def body(self, view: View, width: int, height: int) -> list[Row]:
        last = view.state.foreign.last
        engine = "this server" if last is None else last.engine
        text = _WHY.get(view.model.page, "").format(engine=engine)
        return [((line, "text"),) for line in wrapped(text, width)]
