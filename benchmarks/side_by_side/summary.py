"""From the samples of a row to the lines of its table."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from rows import Row

OURS = "llmtop"
OWN_FACTS = ("interval_ms", "device_ms", "host_ms", "gap_us")
Sample = dict[str, Any]


def summarise(row: Row, engine: str, samples: Sequence[Sample]) -> dict[str, Any]:
    """Medians over the rounds of one engine. What was not measured is None.

    `step_ms` is what the call takes beyond its prefill, for each token after the first;
    `interval_ms`, `device_ms`, `host_ms` and `gap_us` (the device at rest before a step) come from
    our own step events.
    """
    facts = {"section": row.section, "row": row.label, "engine": engine, "rounds": len(samples)}
    if row.section == "stall":
        names = ("itl_p50_ms", "itl_p99_ms", "itl_max_ms", "num_arrivals", "num_gaps")
        return facts | {name: _median(samples, name) for name in names}
    seconds = [sample["seconds"] for sample in samples]
    facts |= {"seconds": median(seconds), "seconds_min": min(seconds), "seconds_max": max(seconds)}
    facts["tok_s"] = row.order.num_output / median(seconds)  # type: ignore[union-attr]
    facts["prefill_s"] = prefill_s = _median(samples, "prefill_s")
    if prefill_s is not None:
        num_steps = row.order.output_lens[0] - 1  # type: ignore[union-attr]
        facts["step_ms"] = (median(seconds) - prefill_s) / num_steps * 1e3 if num_steps else None
    facts |= {name: _median(samples, name) for name in OWN_FACTS}
    return facts | {"tokens": sorted({sample["tokens"] for sample in samples})}


def compare(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines with `advantage`: how many times faster ours is than this one, None without ours.

    Faster by tokens per second; of a wait, by its time.
    """
    mine = {(line["section"], line["row"]): line for line in lines if line["engine"] == OURS}
    compared = []
    for line in lines:
        own = mine.get((line["section"], line["row"]))
        compared.append(line | {"advantage": None if own is None else _wait(line) / _wait(own)})
    return compared


def unequal_tokens(lines: Sequence[dict[str, Any]]) -> list[str]:
    """The rows whose output was not the same in every round of ours."""
    return [
        f"{line['section']} {line['row']}"
        for line in lines
        if line["engine"] == OURS and len(line.get("tokens", ())) > 1
    ]


def _wait(line: dict[str, Any]) -> float:
    return float(line["itl_p99_ms"] if line["section"] == "stall" else line["seconds"])


def _median(samples: Sequence[Sample], name: str) -> float | None:
    values = [sample[name] for sample in samples if sample.get(name) is not None]
    return median(values) if values else None
