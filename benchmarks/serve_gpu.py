#!/usr/bin/env python3
"""Speed and latencies of the engine on a GPU, beside vLLM and transformers, offline.

Random weights of one shape, token ids in, greedy, end of text ignored, no prefix cache. Each engine
has a process of its own; they are loaded side by side and asked in turns, so that what changes
with time meets all of them. One that is not installed is left out. Example:

    python benchmarks/serve_gpu.py --vllm-path /tmp/vllm-site --rounds 3 --json serve_gpu.json

Without a GPU, to try it:

    python benchmarks/serve_gpu.py --model random:tiny --rows decode --batches 1,2 \\
        --prompt 16 --output 8 --rounds 2
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from servers import ROOT, end_on_sigterm, environment, machine, print_machine

sys.path.insert(0, str(Path(__file__).parent / "side_by_side"))
sys.path.insert(0, str(ROOT))

from engine_process import EngineProcess
from gpu import Gpu
from orders import Settings
from rows import SECTIONS, Row, rows_of
from summary import compare, unequal_tokens
from tables import table
from turns import Results, Start, Turns, say

from engine.kv.formats import KV_FORMATS
from engine.models.shapes import PREFIX, SHAPES

DEFAULT_ENGINES = ("llmtop", "vllm", "transformers")
# Ours with a packed KV cache, by its --kv-cache-dtype.
PACKED = tuple(f"llmtop-{name}" for name in KV_FORMATS if name != "auto")
ENGINES = ("llmtop", *PACKED, *DEFAULT_ENGINES[1:])
VLLM_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # greedy only
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",  # `redraw` travels to the process of its core
    "VLLM_USE_DEEP_GEMM": "0",  # fp8 only
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
}
PEER_KEYS = {
    "hidden_act": "silu",
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "use_cache": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def main() -> None:
    arguments = parse()
    end_on_sigterm()
    deadline = time.monotonic() + arguments.time_limit
    facts = machine() | Gpu().facts()
    print_machine(facts)
    rows = wanted_rows(arguments)
    results = Results(lambda now: write(arguments.json, facts, now))
    turns = Turns(arguments.rounds, deadline, results)
    start = starter(arguments)
    names = arguments.engines
    for group in [[name] for name in names] if arguments.one_at_a_time else [names]:
        turns.run(group, start, rows)
    write(arguments.json, facts, results)
    report(results, rows)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--engines", type=chosen(ENGINES), default=DEFAULT_ENGINES, metavar=",".join(ENGINES))
    add("--rows", type=chosen(SECTIONS), default=SECTIONS[:-1], metavar=",".join(SECTIONS))
    add("--batches", type=numbers, default=(1, 4, 8, 16, 32, 64, 128, 256), help="of decode")
    add("--prompt", type=int, default=128, help="tokens, of decode")
    add("--output", type=int, default=128, help="tokens, of decode")
    add("--rounds", type=int, default=3)
    add("--model", default="random:qwen2.5-7b", help="a random:NAME")
    add("--dtype", default="bfloat16")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="of ours")
    add("--memory-fraction", type=float, default=0.42, help="of the GPU, for each engine")
    add("--max-model-len", type=int, default=20_480)
    add("--max-num-seqs", type=int, default=256)
    add("--max-num-batched-tokens", type=int, default=16_384)
    add("--vllm-path", type=Path, help="folder with vLLM and its packages, its PYTHONPATH")
    add("--lib-path", type=Path, help="folder of libcuda.so.1, where vLLM does not find it")
    add("--one-at-a-time", action="store_true", help="load one engine, measure, then the next")
    add("--time-limit", type=float, default=3600.0, metavar="SECONDS", help="of the whole run")
    add("--json", type=Path, help="written anew after each row")
    arguments = parser.parse_args()
    if arguments.model.removeprefix(PREFIX) not in SHAPES:
        parser.error(f"--model is one of {', '.join(PREFIX + name for name in SHAPES)}")
    return arguments


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def chosen(known: Sequence[str]) -> Any:
    def parts(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not of {', '.join(known)}")
        return names

    return parts


def wanted_rows(arguments: argparse.Namespace) -> list[Row]:
    """The rows that the model's positions and the engines' seats have room for."""
    all_rows = rows_of(arguments.rows, arguments.batches, arguments.prompt, arguments.output)
    room = max_model_len(arguments)
    rows = []
    for row in all_rows:
        if row.longest <= room and row.num_streams <= arguments.max_num_seqs:
            rows.append(row)
        else:
            say(f"{row.section} {row.label} is left out: --max-model-len or --max-num-seqs")
    return rows


def max_model_len(arguments: argparse.Namespace) -> int:
    positions = SHAPES[arguments.model.removeprefix(PREFIX)]["max_position_embeddings"]
    return int(min(arguments.max_model_len, positions))


def starter(arguments: argparse.Namespace) -> Start:
    shape = SHAPES[arguments.model.removeprefix(PREFIX)]
    model_type = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2"}
    peer_keys = PEER_KEYS | {"model_type": model_type.get(shape["architectures"][0], "qwen3")}
    settings = Settings(
        arguments.model,
        {**shape, **peer_keys, "torch_dtype": arguments.dtype},
        arguments.dtype,
        arguments.device,
        arguments.memory_fraction,
        max_model_len(arguments),
        arguments.max_num_seqs,
        arguments.max_num_batched_tokens,
    )
    environments = {name: own_environment(name, arguments) for name in ENGINES}

    def start(name: str, deadline: float) -> EngineProcess:
        kv_cache_dtype = name.partition("-")[2] or "auto"
        own = replace(settings, kv_cache_dtype=kv_cache_dtype)
        return EngineProcess(name, own, environments[name], deadline)

    return start


def own_environment(name: str, arguments: argparse.Namespace) -> dict[str, str]:
    """Ours finds this checkout; vLLM its own packages and none of ours, whose versions differ."""
    if name != "vllm":
        return environment(HF_HUB_OFFLINE="1")
    path = {"PYTHONPATH": str(arguments.vllm_path)} if arguments.vllm_path else {}
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    kept |= {"HF_HUB_OFFLINE": "1", **VLLM_ENVIRONMENT}
    if arguments.lib_path is not None:
        libraries = filter(None, [str(arguments.lib_path), kept.get("LD_LIBRARY_PATH")])
        kept["LD_LIBRARY_PATH"] = os.pathsep.join(libraries)
    return kept | path


def write(path: Path | None, facts: dict[str, Any], results: Results) -> None:
    """Writes beside the file and then over it: a run that is cut off leaves a whole one."""
    if path is None:
        return
    document = {
        "machine": facts,
        "engines": results.engines,
        "summary": compare(results.lines),
        "samples": results.samples,
        "failures": results.failures,
    }
    new = path.with_suffix(".new")
    new.write_text(json.dumps(document, indent=1) + "\n")
    new.replace(path)


def report(results: Results, rows: Sequence[Row]) -> None:
    order = {(row.section, row.label): place for place, row in enumerate(rows)}
    lines = sorted(
        compare(results.lines),
        key=lambda line: (order[line["section"], line["row"]], ENGINES.index(line["engine"])),
    )
    for name, facts in results.engines.items():
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in facts.items()))
    for section, group in groupby(lines, key=lambda line: line["section"]):
        print(f"\n{table(section, list(group))}")
    clocks = [sample["sm_mhz"] for sample in results.samples if "sm_mhz" in sample]
    if clocks:
        print(f"\nSM clock right after a call: {min(clocks)} to {max(clocks)} MHz")
    for row in unequal_tokens(lines):
        print(f"\nNOT THE SAME TOKENS in every round of ours: {row}")
    for failure in results.failures:
        print(f"left out: {failure}")


if __name__ == "__main__":
    main()
