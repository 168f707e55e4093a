"""What reading a foreign server's metrics page costs, from its text to a sample.

The page is one of a file, or of our own server's names under a made-up session, filled up with
lines that nobody asks for.

    python benchmarks/page_cost.py --page vllm.prom --lines 2000 --json page_cost.json
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Final

from synthetic import Synthetic

from profiler.foreign.names import Engine
from profiler.foreign.reading import Reader, engine_of
from profiler.prometheus import render
from profiler.state import SessionState

START_NS: Final = 1_000_000_000_000
GOAL_PERCENT: Final = 3.0
TARGETS: Final = 8


def own_page() -> str:
    session, state = Synthetic(64, 16_384, gpu=False, step_ns=10_000_000), SessionState()
    events = [*session.start(START_NS, 0)]
    for step in range(200):
        events += session.step(START_NS + step * 10_000_000)
    for seq, event in enumerate(events, 1):
        state.apply(event, seq)
    return render(state).decode()


def filled(page: str, num_lines: int) -> str:
    lines = page.splitlines()
    missing = max(0, num_lines - len(lines))
    lines += [
        f'http_request_duration_seconds_bucket{{handler="/v1/{i % 40}",le="{i}"}} {i}.0'
        for i in range(missing)
    ]
    return "\n".join(lines)


def cost_ms(page: str, engine: Engine, repeats: int) -> list[float]:
    """CPU milliseconds of each reading by one reader, the first one among them."""
    times, reader = [], Reader(engine)
    for _ in range(repeats):
        began = time.process_time()
        reader.read(page, 0)
        times.append((time.process_time() - began) * 1e3)
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, help="a page in Prometheus' text format")
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    page = filled(options.page.read_text() if options.page else own_page(), options.lines)
    engine = engine_of(page)
    if engine is None:
        parser.error("the page is of no server that is known")
    first, *later = cost_ms(page, engine, options.repeats)
    middle = median(later)
    percent = TARGETS * middle / 10
    found = {
        "engine": engine.name,
        "lines": len(page.splitlines()),
        "first_page_ms": first,
        "ms_per_page": middle,
        "percent_of_a_core": percent,
        "targets": TARGETS,
        "goal_percent": GOAL_PERCENT,
    }
    print("| engine | lines | first, ms | ms a page | 8 targets a second, % of a core | goal |")
    print("|---|---|---|---|---|---|")
    costs = f"{first:.1f} | {middle:.2f} | {percent:.1f}"
    print(f"| {engine.name} | {found['lines']} | {costs} | {GOAL_PERCENT} |")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
