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
from collections.abc import Callable
from typing import Any, TextIO

import stalls
from engines import Engine
from orders import AnyOrder, Order, Settings, StallOrder, digest, from_message

MOST_OUTPUT = 8192


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
    module = importlib.import_module(f"{name.partition('-')[0]}_engine")
    engine: Engine = module.create(settings)
    return engine


def obey(engine: Engine, order: AnyOrder) -> dict[str, Any]:
    """The answer to an order; {"skipped": why} where the engine cannot do it."""
    if isinstance(order, Order):
        return timed(engine, order)
    if engine.stepper is None:
        return {"skipped": "it takes no requests between two steps"}
    return stalls.measure(engine.stepper, order, _out_of_reach(engine.stepper, order))


def timed(engine: Engine, order: Order) -> dict[str, Any]:
    prompts = order.prompts(engine.vocab_size)
    begin = time.perf_counter()
    call = engine.generate(prompts, order.output_lens)
    seconds = time.perf_counter() - begin
    if [len(tokens) for tokens in call.outputs] != list(order.output_lens):
        raise ValueError("an output is shorter or longer than was asked for")
    return {"seconds": seconds, "tokens": digest(call.outputs), **call.more}


def _out_of_reach(stepper: stalls.Stepper, order: StallOrder) -> int:
    """Output tokens that no stream gets to: they come at some hundreds a second."""
    return min(stepper.max_model_len - order.prompt_len, MOST_OUTPUT)


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
