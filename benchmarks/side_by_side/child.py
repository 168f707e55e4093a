"""The process of one engine: orders come as lines of JSON, an answer goes out for each.

Started by serve_gpu.py, as `python child.py ENGINE SETTINGS`. Between orders it waits for the next
line, so that an idle engine leaves the GPU to the other one.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

import stalls
from orders import AnyOrder, Order, Settings, digest, from_message


@dataclass
class Call:
    """One generate call: the ids of each output, and what the engine says of itself."""

    outputs: Sequence[Sequence[int]]
    more: dict[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """`stepper` is None where the engine takes whole batches alone."""

    vocab_size: int
    stepper: stalls.Stepper | None

    def facts(self) -> dict[str, Any]:
        """What the numbers depend on: versions, settings as they came out."""
        ...

    def generate(self, prompts: list[list[int]], output_lens: Sequence[int]) -> Call:
        """Exactly as many tokens of each as asked; returns when all are on the host."""
        ...


def main() -> None:
    # Whatever the engine prints goes to stderr: the answers have this pipe for themselves.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    name, settings = sys.argv[1], Settings(**json.loads(sys.argv[2]))
    engine = _answered(replies, lambda: _load(name, settings))
    if engine is None:
        sys.exit(1)
    reply(replies, {"facts": engine.facts()})
    for line in sys.stdin:
        answer = _answered(replies, lambda line=line: obey(engine, from_message(json.loads(line))))
        if answer is not None:
            reply(replies, answer)


def _load(name: str, settings: Settings) -> Engine:
    engine: Engine = importlib.import_module(f"{name}_engine").create(settings)
    return engine


def obey(engine: Engine, order: AnyOrder) -> dict[str, Any]:
    """The answer to an order; {"skipped": why} where the engine cannot do it."""
    if isinstance(order, Order):
        return timed(engine, order)
    if engine.stepper is None:
        return {"skipped": "it takes no requests between two steps"}
    return stalls.measure(engine.stepper, order, num_output=_room(engine, order))


def timed(engine: Engine, order: Order) -> dict[str, Any]:
    prompts = order.prompts(engine.vocab_size)
    begin = time.perf_counter()
    call = engine.generate(prompts, order.output_lens)
    seconds = time.perf_counter() - begin
    if [len(tokens) for tokens in call.outputs] != list(order.output_lens):
        raise ValueError("an output is shorter or longer than was asked for")
    return {"seconds": seconds, "tokens": digest(call.outputs), **call.more}


def _room(engine: Engine, order: stalls.StallOrder) -> int:
    """Output tokens that no stream reaches: a GPU of today makes no thousand a second each."""
    return min(getattr(engine, "max_model_len", 1 << 30) - order.prompt_len, 8192)


def _answered(replies: TextIO, make: Callable[[], Any]) -> Any:
    """What `make` gives; None once its error was told instead."""
    try:
        return make()
    except Exception as error:
        traceback.print_exc()
        reply(replies, {"error": f"{type(error).__name__}: {error}"[:500]})
        return None


def reply(replies: TextIO, answer: dict[str, Any]) -> None:
    replies.write(json.dumps(answer) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
