#!/usr/bin/env python3
"""Whether the proxy's numbers agree with the server's own and with a client's stamps.

A load goes through `llmtop proxy` to a server that runs already. Then three tell of the same
requests: the client's stamps, the proxy's session file, and what the server's metrics page gained
(vLLM's names; llama.cpp has only counters of tokens). Nobody else may use the server meanwhile.
Examples:

    python benchmarks/proxy_agreement.py http://127.0.0.1:8000
    python benchmarks/proxy_agreement.py http://127.0.0.1:8000 --num-prompts 64 --json a.json
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from bisect import bisect_left
from pathlib import Path
from statistics import fmean

import httpx
from servers import (
    Launch,
    end_on_sigterm,
    environment,
    machine,
    print_machine,
    running,
    write_json,
)

from llmtop.load import Lengths, LoadSpec
from llmtop.load.client import LoadClient
from llmtop.load.connection import Connections
from llmtop.load.generator import LoadRun
from llmtop.load.progress import LoadProgress
from llmtop.load.prompts import PromptWriter, measure_vocabulary
from llmtop.load.result import RequestResult
from llmtop.load.server import Server, open_client
from profiler.events import Buckets, MetricsSample
from profiler.folds.request_view import RequestView
from profiler.foreign.reading import engine_of, read
from profiler.session.reader import SessionReader

SETTLE_S = 3.0
QUANTILES = {"least": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "most": 1.0}


async def load(spec: LoadSpec) -> list[RequestResult]:
    """What `llmtop load` sends and measures, request by request."""
    async with open_client(spec) as http, Connections(spec.root_url, spec.headers) as connections:
        server = Server(http)
        model = spec.model or await server.first_model()
        words = await measure_vocabulary(lambda text: server.count_tokens(model, text))
        progress = LoadProgress()
        client = LoadClient(spec, model, connections, progress)
        run = LoadRun(spec, client, PromptWriter(spec, words), progress)
        await run.until(asyncio.Event())
        return run.results


def metrics(url: str) -> MetricsSample:
    text = httpx.get(f"{url}/metrics", timeout=30).raise_for_status().text
    engine = engine_of(text)
    if engine is None:
        raise SystemExit(f"{url}/metrics is of no server that is known")
    return read(text, engine, time.monotonic_ns())


def recorded(path: Path) -> list[RequestView]:
    reader = SessionReader(path)
    try:
        return sorted(reader.state_at(reader.end_ns).requests.done, key=lambda r: r.t_queued_ns)
    finally:
        reader.close()


def ttft_ns(view: RequestView) -> int:
    assert view.t_first_ns is not None
    return view.t_first_ns - view.t_queued_ns


def against_client(results: list[RequestResult], views: list[RequestView]) -> dict[str, object]:
    """The client's time to the first token less the proxy's, for each request, and its two parts,
    the way there and the way back: all three tell the time of one clock."""
    there = [v.t_queued_ns - r.t_send_ns for r, v in zip(results, views, strict=True)]
    apart = [(r.ttft_ns or 0) - ttft_ns(v) for r, v in zip(results, views, strict=True)]
    back = [whole - part for whole, part in zip(apart, there, strict=True)]
    output, prompt = [r.num_output_tokens for r in results], [r.num_prompt_tokens for r in results]
    told = [v.num_output_tokens for v in views], [v.num_prompt_tokens or 0 for v in views]
    return {
        "requests": len(apart),
        "ttft_client_less_proxy_ms": spread(apart),
        "sent_to_proxy_ms": spread(there),
        "first_token_to_client_ms": spread(back),
        "output_tokens": {"client": sum(output), "proxy": sum(told[0]), "same": output == told[0]},
        "prompt_tokens": {"client": sum(prompt), "proxy": sum(told[1]), "same": prompt == told[1]},
    }


def spread(times_ns: list[int]) -> dict[str, float]:
    ms = sorted(t_ns / 1e6 for t_ns in times_ns)
    found = {
        name: round(ms[min(len(ms) - 1, int(len(ms) * q))], 3) for name, q in QUANTILES.items()
    }
    return found | {"within_1_ms": sum(abs(each) <= 1.0 for each in ms)}


def against_server(
    before: MetricsSample, after: MetricsSample, views: list[RequestView]
) -> dict[str, object]:
    gained = {key: after.counters[key] - before.counters.get(key, 0.0) for key in after.counters}
    found: dict[str, object] = {"server_counters": gained}
    if "ttft" in after.histograms:
        old = before.histograms.get("ttft")
        found["ttft"] = histogram(old, after.histograms["ttft"], views)
    return found


def histogram(old: Buckets | None, new: Buckets, views: list[RequestView]) -> dict[str, object]:
    """The bucket of the server's n-th shortest and of the proxy's, for each n."""
    counts = [
        count - (0.0 if old is None else old.counts[at]) for at, count in enumerate(new.counts)
    ]
    total = new.count - (0.0 if old is None else old.count)
    mean_s = (new.sum_s - (0.0 if old is None else old.sum_s)) / total
    ours_s = sorted(ttft_ns(view) / 1e9 for view in views)
    same = apart = 0
    for rank, value_s in enumerate(ours_s, 1):
        theirs = bisect_left(counts, rank)
        mine = bisect_left(new.edges, value_s)
        same += theirs == mine
        apart = max(apart, abs(theirs - mine))
    return {
        "server_n": total, "proxy_n": len(ours_s), "server_mean_ms": mean_s * 1e3,
        "proxy_mean_ms": fmean(ours_s) * 1e3, "same_bucket": same, "buckets_apart": apart,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("upstream", help="the server's address")
    parser.add_argument("--num-prompts", type=int, default=32)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--input-len", default="32-128")
    parser.add_argument("--output-len", default="32")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    end_on_sigterm()
    with tempfile.TemporaryDirectory() as folder:
        session = Path(folder) / "session.db"
        command = [sys.executable, "-m", "llmtop", "proxy", "--upstream", args.upstream]
        command += ["--headless", "--port", "{port}", "--session", str(session)]
        before = metrics(args.upstream)
        with running(Launch("proxy", command, environment()), Path(folder)) as proxy:
            spec = LoadSpec(
                proxy.url,
                num_requests=args.num_prompts,
                concurrency=args.concurrency,
                warmup_requests=0,
                prompt_tokens=Lengths.parse(args.input_len),
                output_tokens=Lengths.parse(args.output_len),
            )
            results = sorted(asyncio.run(load(spec)), key=lambda result: result.t_send_ns)
            time.sleep(SETTLE_S)
            after = metrics(args.upstream)
        views = recorded(session)
    errors = {result.error for result in results if not result.ok}
    if errors or len(results) != len(views):
        raise SystemExit(f"{len(results)} sent, {len(views)} seen, {sorted(errors)}")
    document = {"machine": machine(), "server": [after.engine, after.model]}
    document |= against_client(results, views) | against_server(before, after, views)
    print_machine(machine())
    for key, value in document.items():
        if key != "machine":
            print(f"{key:<28} {value}")
    write_json(args.json, document)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
