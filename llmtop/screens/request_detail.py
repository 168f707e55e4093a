"""One request's own page: facts, waterfall, time of each token, and why one took so long."""

from __future__ import annotations

from typing import Final

from textual.app import ComposeResult
from textual.containers import Container

from llmtop.widgets.life import Life
from llmtop.widgets.requestfacts import RequestFacts
from llmtop.widgets.slowtokens import SlowTokens
from llmtop.widgets.tokenstep import TokenStep
from llmtop.widgets.tokentimes import TokenTimes

# With fewer lines the slowest token alone is explained.
LOW: Final = 30


class RequestDetail(Container):
    DEFAULT_CSS = """
    RequestDetail { height: 1fr; width: 1fr; layout: vertical; }
    RequestDetail > RequestFacts { height: 4; }
    RequestDetail > Life { height: 8; }
    RequestDetail > TokenTimes { height: 1fr; }
    RequestDetail > SlowTokens { height: 5; }
    RequestDetail > TokenStep { height: 1fr; }
    RequestDetail.narrow > RequestFacts { height: 5; }
    RequestDetail.narrow > Life { height: 6; }
    RequestDetail.low > SlowTokens { display: none; }
    RequestDetail.low > TokenTimes { height: 4; }
    """

    def compose(self) -> ComposeResult:
        yield RequestFacts(id="request-facts")
        yield Life(id="request-life", top="├┤")
        yield TokenTimes(id="request-tokens", top="├┤")
        yield SlowTokens(id="request-slow", top="├┤")
        yield TokenStep(id="request-step", top="├┤", bottom="└┘")

    def on_resize(self) -> None:
        self.set_class(self.size.width < 100, "narrow")
        self.set_class(self.size.height < LOW, "low")
