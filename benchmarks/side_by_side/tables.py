"""The tables as they go into a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Line = dict[str, Any]
Column = tuple[str, Callable[[Line], str]]


def number(name: str, digits: int, scale: float = 1.0) -> Callable[[Line], str]:
    """A cell: the number in that many digits, or -- where there is none."""

    def cell(line: Line) -> str:
        value = line.get(name)
        return "--" if value is None else f"{value * scale:,.{digits}f}"

    return cell


def _spread(line: Line) -> str:
    return f"{line['seconds_min'] * 1e3:,.1f} to {line['seconds_max'] * 1e3:,.1f}"


def _tokens(line: Line) -> str:
    return "/".join(line["tokens"]) + (" DIFFER" if len(line["tokens"]) > 1 else "")


_CALL: tuple[Column, ...] = (
    ("output tok/s", number("tok_s", 1)),
    ("seconds", number("seconds", 3)),
    ("prefill s", number("prefill_s", 4)),
    ("step ms", number("step_ms", 3)),
    ("interval ms", number("interval_ms", 3)),
    ("device ms", number("device_ms", 3)),
    ("host ms", number("host_ms", 3)),
    ("gap us", number("gap_us", 1)),
)
_TTFT: tuple[Column, ...] = (
    ("ms", number("seconds", 2, 1e3)),
    ("min to max", _spread),
)
_STALL: tuple[Column, ...] = (
    ("ITL p50 ms", number("itl_p50_ms", 2)),
    ("ITL p99 ms", number("itl_p99_ms", 2)),
    ("ITL max ms", number("itl_max_ms", 2)),
    ("arrivals", number("num_arrivals", 0)),
)
_TITLES = {
    "decode": "Decode: requests x prompt -> output",
    "ttft": "Time to first token: one request, prompt tokens",
    "mixed": "Mixed lengths: requests x range of prompt and of output",
    "p1024": "Prompts of 1,024: requests x prompt -> output",
    "long": "Long context: requests x prompt -> output",
    "stall": "Stalls: streams + prompts that come in",
}


def table(section: str, lines: Sequence[Line]) -> str:
    """One section in Markdown, with our advantage and our tokens' digest at the end."""
    columns = [("row", lambda line: line["row"]), ("engine", lambda line: line["engine"])]
    columns += {"ttft": _TTFT, "stall": _STALL}.get(section, _CALL)
    columns.append(("llmtop / this", number("advantage", 3)))
    if section != "stall":
        columns.append(("tokens", _tokens))
    columns.append(("rounds", number("rounds", 0)))
    head = [name for name, _ in columns]
    cells = [[cell(line) for _, cell in columns] for line in lines]
    rows = [head, ["---"] * len(head), *cells]
    return f"{_TITLES[section]}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)
