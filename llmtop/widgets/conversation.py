"""Questions and answers as rows, and what the client measured."""

from __future__ import annotations

from dataclasses import dataclass

from llmtop.chat import Timing
from llmtop.format import milliseconds, short
from llmtop.privacy import Privacy
from llmtop.widgets.rows import Row
from llmtop.widgets.wrapping import wrapped


@dataclass(slots=True)
class Exchange:
    """`state` is "asking", "answered", "cancelled" or, after an error, what went wrong."""

    question: str
    answer: str = ""
    state: str = "asking"
    timing: Timing | None = None

    @property
    def failed(self) -> bool:
        return self.state not in ("asking", "answered", "cancelled")


def conversation_rows(exchanges: list[Exchange], width: int, privacy: Privacy) -> list[Row]:
    """What was said, in `width` cells, masked as `privacy` has it."""
    rows: list[Row] = []
    for exchange in exchanges:
        rows += _indented(privacy.words(exchange.question), "> ", "key", "value", width)
        answer = privacy.words(exchange.answer)
        rows += _indented(answer, "  ", "text", "text", width) if answer else []
        rows += [(("  ", "text"), *span) for span in _state(exchange, width, privacy)]
        rows.append(())
    return rows


def _indented(text: str, lead: str, lead_role: str, role: str, width: int) -> list[Row]:
    lines = wrapped(text, width - len(lead))
    blank = " " * len(lead)
    return [((lead if i == 0 else blank, lead_role), (line, role)) for i, line in enumerate(lines)]


def _state(exchange: Exchange, width: int, privacy: Privacy) -> list[Row]:
    measured = timing_row(exchange.timing) if exchange.timing else ()
    if exchange.state == "asking":
        return [measured or (("waiting for the first token", "dim"),)]
    if exchange.failed:
        return [((line, "bad"),) for line in wrapped(privacy.text(exchange.state), width - 2)]
    ended = ((" cancelled", "warn"),) if exchange.state == "cancelled" else ()
    return [(*measured, *ended)] if measured or ended else []


def timing_row(timing: Timing) -> Row:
    """TTFT, token count and rate, as the client saw them; nothing before the first token."""
    ttft_ms = timing.ttft_ms
    if ttft_ms is None:
        return ()
    return (
        ("TTFT ", "dim"),
        (milliseconds(ttft_ms), "value"),
        (" ms  ", "dim"),
        (str(timing.num_tokens), "value"),
        (" tokens  ", "dim"),
        (short(timing.tokens_per_s), "value"),
        (" tokens/s at this client", "dim"),
    )
