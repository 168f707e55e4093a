"""Sessions of the real engine over a small real decoder, on a clock that moves 5 ms a look.

So a step takes as long on every machine, and a session recorded twice is the same to the ns.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.config import SamplingParams
from engine.core import EngineCore
from engine.llm import engine_config
from engine.models.progress import silent
from engine.request import EngineRequest
from profiler.bus import Bus
from profiler.follower import Follower
from profiler.session.tape import Tape

Record = Callable[..., Path]
MS = 1_000_000
S = 1_000_000_000
IN_FLIGHT = 8
NUM_REQUESTS = 120


def requests(seed: int, prompt_tokens: int, names: str) -> Iterator[EngineRequest]:
    rng = random.Random(seed)
    for number in range(1, NUM_REQUESTS + 1):
        prompt = tuple(rng.randrange(3, 200) for _ in range(rng.randint(4, prompt_tokens)))
        params = SamplingParams(temperature=0.0, max_tokens=rng.randint(2, 24), ignore_eos=True)
        yield EngineRequest(number, f"{names}{number}", prompt, params)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A session of 120 requests, eight at once; settings are the engine's own."""
    cache = tmp_path_factory.mktemp("cache")

    def record(
        name: str = "session",
        seed: int = 0,
        prompt_tokens: int = 48,
        clean: bool = True,
        **settings: Any,
    ) -> Path:
        path = tmp_path_factory.mktemp("sessions") / f"{name}.db"
        bus = Bus()
        tape = Tape(path, bus, Follower(bus))
        now_ns = [1_000 * S]

        def clock() -> int:
            now_ns[0] += 5 * MS
            return now_ns[0]

        given = {"num_gpu_blocks_override": 256, "block_size": 4, **settings}
        config = engine_config(
            "random:tiny", {"dtype": "float32", "device": "cpu", "num_threads": 1, **given}
        )
        core = EngineCore(config, cache, bus.publish, silent, clock)
        bus.publish(core.session_start())
        waiting = list(requests(seed, prompt_tokens, name))
        in_flight = 0
        while waiting or core.has_work:
            while waiting and in_flight < IN_FLIGHT:
                core.add(waiting.pop(0))
                in_flight += 1
            in_flight -= sum(output.finish_reason is not None for output in core.step())
            if len(waiting) % 5 == 0:
                tape.flush()
        tape.flush()
        if clean:
            tape.finish()
        return path

    return record


@pytest.fixture(scope="session")
def base(recorded: Record) -> Path:
    return recorded("base")


@pytest.fixture(scope="session")
def again(recorded: Record) -> Path:
    """The same once more, by clients with other ids."""
    return recorded("again")


@pytest.fixture(scope="session")
def few_pages(recorded: Record) -> Path:
    """Room for about two requests of eight."""
    return recorded("few", num_gpu_blocks_override=24)


@pytest.fixture(scope="session")
def other_load(recorded: Record) -> Path:
    return recorded("other", seed=9, prompt_tokens=200, num_gpu_blocks_override=1024)
