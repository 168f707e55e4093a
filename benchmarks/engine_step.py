"""Where the time of an engine step goes, in this process, without a server.

    python benchmarks/engine_step.py --batch 1 8 32 --json engine_step.json

Each batch prefills and decodes as many requests at once. "bare" is the floor: the linear layers of
one decode step on their own, with no more than their norms between them. Times are medians over
the decode steps.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import engine.runner
from engine.attention import Backend, Hidden, create_backend
from engine.config import EngineConfig, SamplingParams
from engine.core import EngineCore
from engine.loading import Loaded
from engine.models.decoder import Decoder
from engine.models.registry import ModelRegistry
from engine.request import EngineRequest
from llmtop.paths import cache_dir
from profiler.events import AnyEvent, Step

OPERATIONS = ("attend", "rope_and_write", "rms_norm", "plan")
# They make the products, which are timed with the norm before them.
PRODUCTS = ("norm_linear", "norm_gated_linear", "residual_linear")


class TimedBackend:
    """A backend that adds up how long each kind of operation took. For the CPU: calls are done
    when they return."""

    def __init__(self, inner: Backend) -> None:
        self.device, self.dtype = inner.device, inner.dtype
        self.allocate_pool = inner.allocate_pool
        self.prepare, self.backed_bytes = inner.prepare, inner.backed_bytes
        self.seconds: dict[str, float] = defaultdict(float)
        for name in OPERATIONS:
            setattr(self, name, self._timed(name, getattr(inner, name)))
        for name in PRODUCTS:
            setattr(self, name, self._timing_what_it_makes(name, getattr(inner, name)))

    def _timing_what_it_makes(self, name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: self._timed(name, make(*args))

    def _timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            begin = time.perf_counter()
            result = call(*args)
            self.seconds[name] += time.perf_counter() - begin
            return result

        return timed


class Bench:
    """A core whose backend is timed, and the events it told."""

    def __init__(self, config: EngineConfig) -> None:
        self.events: list[AnyEvent] = []
        self.backend: TimedBackend | None = None
        self.decoder: Decoder | None = None
        engine.runner.create_backend = self._create_backend  # type: ignore[assignment]
        self.core = EngineCore(
            config, cache_dir(), self.events.append, lambda *_: None, load=self._load
        )
        self._random = random.Random(0)
        self._number = 0

    def _create_backend(self, *args: Any) -> Any:
        self.backend = TimedBackend(create_backend(*args))
        return self.backend

    def _load(self, config: EngineConfig, cache: Path, progress: Any) -> Loaded:
        folder = ModelRegistry(cache).resolve(config.model, progress)
        runner = engine.runner.ModelRunner(config, folder, progress)
        self.decoder = runner._decoder
        return Loaded(folder, runner)

    def run(self, batch: int, num_prompt: int, num_output: int) -> float:
        """Seconds for `batch` requests that come at once."""
        params = SamplingParams(temperature=0.0, max_tokens=num_output, ignore_eos=True)
        vocab_size = self.core.folder.config.vocab_size
        for _ in range(batch):
            self._number += 1
            prompt = tuple(self._random.randrange(vocab_size) for _ in range(num_prompt))
            self.core.add(EngineRequest(self._number, "", prompt, params))
        self.events.clear()
        begin = time.perf_counter()
        while self.core.has_work:
            self.core.step()
        return time.perf_counter() - begin

    def split(self, batch: int, num_prompt: int) -> dict[str, float]:
        """Milliseconds of a decode step by operation, from 32 steps after the prefill."""
        assert self.backend is not None
        params = SamplingParams(temperature=0.0, max_tokens=48, ignore_eos=True)
        for _ in range(batch):
            self._number += 1
            prompt = tuple(self._random.randrange(1000) for _ in range(num_prompt))
            self.core.add(EngineRequest(self._number, "", prompt, params))
        for _ in range(12):
            self.core.step()
        self.backend.seconds.clear()
        self.events.clear()
        begin = time.perf_counter()
        for _ in range(32):
            self.core.step()
        total = (time.perf_counter() - begin) * 1e3 / 32
        parts = {name: s * 1e3 / 32 for name, s in self.backend.seconds.items()}
        parts["host"] = statistics.mean(s.host_ns for s in steps_of(self.events)) / 1e6
        parts["rest"] = total - sum(parts.values())
        while self.core.has_work:
            self.core.step()
        return {"total": total, **parts}

    def bare_ms(self, batch: int) -> float:
        """The linear layers of one decode step with their norms; the best of 20."""
        assert self.decoder is not None
        weights, config = self.decoder._weights, self.decoder.config
        q = config.num_heads * config.head_dim
        dtype = weights.embedding.dtype
        hidden = Hidden(torch.randn(batch, config.hidden_size).to(dtype))
        attended = torch.randn(batch, q).to(dtype)
        best = float("inf")
        with torch.inference_mode():
            for _ in range(20):
                begin = time.perf_counter()
                for layer in weights.layers:
                    layer.qkv(hidden)
                    layer.output(attended, hidden)
                    layer.down(layer.gate_up(hidden)[0], hidden)
                weights.head(hidden)
                best = min(best, time.perf_counter() - begin)
        return best * 1e3


def steps_of(events: list[AnyEvent]) -> list[Step]:
    return [event for event in events if isinstance(event, Step)]


def measure(bench: Bench, batch: int, num_prompt: int, num_output: int, repeats: int) -> Any:
    bench.run(batch, num_prompt, 4)
    seconds, ttfts, decodes, hosts = [], [], [], []
    for _ in range(repeats):
        seconds.append(bench.run(batch, num_prompt, num_output))
        steps = steps_of(bench.events)
        ttfts.append((steps[0].end_ns - steps[0].t_ns) / 1e6)
        decode = [s for s in steps if not any(r.prefill_tokens for r in s.rows)]
        decodes += [(s.end_ns - s.t_ns) / 1e6 for s in decode]
        hosts += [s.host_ns / 1e3 for s in decode]
    return {
        "batch": batch,
        "output_tokens_per_s": batch * num_output / statistics.median(seconds),
        "first_step_ms": statistics.median(ttfts),
        "decode_step_ms": statistics.median(decodes),
        "decode_step_min_ms": min(decodes),
        "host_us": statistics.median(hosts),
        "bare_ms": bench.bare_ms(batch),
        "split_ms": bench.split(batch, num_prompt),
    }


def print_row(row: Any) -> None:
    floor = row["batch"] / row["bare_ms"] * 1e3
    print(
        f"batch {row['batch']:>3}: {row['output_tokens_per_s']:7.1f} tok/s"
        f" | decode step {row['decode_step_ms']:7.2f} ms (min {row['decode_step_min_ms']:.2f})"
        f" | bare {row['bare_ms']:.2f} ms = {floor:.0f} tok/s"
        f" | host {row['host_us']:.0f} us | first step {row['first_step_ms']:.0f} ms"
    )
    parts = sorted(row["split_ms"].items(), key=lambda part: -part[1])
    print("    " + "  ".join(f"{name} {ms:.2f}" for name, ms in parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=EngineConfig().model)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--input-len", type=int, default=128)
    parser.add_argument("--output-len", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the rows")
    args = parser.parse_args()
    bench = Bench(EngineConfig(model=args.model, dtype=args.dtype, device="cpu"))
    device = bench.core.session_start().device
    print(f"{args.model} {bench.backend.dtype} on {device}, {args.input_len} in")  # type: ignore
    rows = []
    for batch in args.batch:
        rows.append(measure(bench, batch, args.input_len, args.output_len, args.repeats))
        print_row(rows[-1])
    if args.json is not None:
        machine = {
            "device": device,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        result = {"machine": machine, "load_1m": os.getloadavg()[0], "rows": rows}
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
