"""What an event costs whoever keeps the state: the server once, an attached terminal once.

Each kind of event is timed where it occurs in a made-up session, so that caches are as warm or
cold as they are in life; a keyframe and its restoring are timed at the end of it.

    python benchmarks/fold_cost.py --requests 64 --out fold_cost.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Final

from synthetic import Synthetic

from profiler.events import AnyEvent, kind_of
from profiler.prometheus import render
from profiler.state import SessionState

START_NS: Final = 1_000_000_000_000
STEP_NS: Final = 10_000_000
GOAL_US: Final = 30.0


def events_of(requests: int, pages: int, steps: int) -> list[AnyEvent]:
    session = Synthetic(requests, pages, gpu=True, step_ns=STEP_NS)
    events = list(session.start(START_NS, 0))
    for step in range(steps):
        events += session.step(START_NS + step * STEP_NS)
    return events


def cost_by_kind(state: SessionState, events: list[AnyEvent]) -> dict[str, list[float]]:
    """Microseconds of each event."""
    costs: dict[str, list[float]] = defaultdict(list)
    for seq, event in enumerate(events, 1):
        began = time.thread_time_ns()
        state.apply(event, seq)
        costs[kind_of(event)].append((time.thread_time_ns() - began) / 1e3)
    return costs


def whole_state_ms(state: SessionState) -> dict[str, float]:
    """Median milliseconds of what is done with a state as a whole."""
    data = state.keyframe()
    actions = {
        "keyframe": state.keyframe,
        "restore": lambda: SessionState.restore(data),
        "metrics page": lambda: render(state),
    }
    found = {}
    for name, action in actions.items():
        times = []
        for _ in range(15):
            began = time.thread_time()
            action()
            times.append((time.thread_time() - began) * 1e3)
        found[name] = median(times)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--pages", type=int, default=16_384)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON")
    options = parser.parse_args()
    events = events_of(options.requests, options.pages, options.steps)
    state = SessionState()
    costs = cost_by_kind(state, events)
    print(f"{options.steps} steps, {options.requests} requests, {options.pages} pages")
    print(f"{'kind':>22} {'events':>8} {'median us':>10} {'mean us':>8} {'us a step':>10}")
    for kind, times in sorted(costs.items(), key=lambda item: -sum(item[1])):
        mean = sum(times) / len(times)
        share = sum(times) / options.steps
        print(f"{kind:>22} {len(times):>8} {median(times):>10.1f} {mean:>8.1f} {share:>10.1f}")
    total_us = sum(map(sum, costs.values())) / options.steps
    step_us = sum(costs["step"]) / len(costs["step"])
    print(f"one step with all that comes with it: {total_us:.1f} us")
    print(f"the Step event alone: {step_us:.1f} us, goal {GOAL_US:.0f}: {step_us <= GOAL_US}")
    whole = whole_state_ms(state)
    size_kib = len(state.keyframe()) / 1024
    print(", ".join(f"{name} {ms:.1f} ms" for name, ms in whole.items()), f"({size_kib:.0f} KiB)")
    if options.out:
        facts = {"requests": options.requests, "steps": options.steps, "total_us": total_us}
        whole_ms = {f"{name.replace(' ', '_')}_ms": ms for name, ms in whole.items()}
        options.out.write_text(
            json.dumps({**facts, "step_us": step_us, **whole_ms}, indent=2) + "\n"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
