"""One request's own page: facts, waterfall, time of each token, and the step behind a token."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container

from llmtop.widgets.life import Life
from llmtop.widgets.requestfacts import RequestFacts
from llmtop.widgets.tokenstep import TokenStep
from llmtop.widgets.tokentimes import TokenTimes


class RequestDetail(Container):
    DEFAULT_CSS = """
    RequestDetail { height: 1fr; width: 1fr; layout: vertical; }
    RequestDetail > RequestFacts { height: 4; }
    RequestDetail > Life { height: 8; }
    RequestDetail > TokenTimes { height: 1fr; }
    RequestDetail > TokenStep { height: 1fr; }
    RequestDetail.narrow > RequestFacts { height: 5; }
    RequestDetail.narrow > Life { height: 6; }
    """

    def compose(self) -> ComposeResult:
        yield RequestFacts(id="request-facts")
        yield Life(id="request-life", top="├┤")
        yield TokenTimes(id="request-tokens", top="├┤")
        yield TokenStep(id="request-step", top="├┤", bottom="└┘")

    def on_resize(self) -> None:
        self.set_class(self.size.width < 100, "narrow")
