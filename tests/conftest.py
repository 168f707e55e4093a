"""What tests of every part share: the default model, and batches without a scheduler."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings

# No example fails for being slow: a busy machine is no bug. The default suite decides over
# releases, so it tries the same examples everywhere; to look for new ones, run it with
# --hypothesis-profile=explore.
settings.register_profile(
    "explore", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("same", settings.get_profile("explore"), derandomize=True, database=None)
settings.load_profile("same")

# Tiny models gain nothing from threads, and threads that wait for each other stall a busy machine:
# where two workers share two cores, who spins keeps the one that it waits for from its core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Containers are often told to keep no bytecode. Then each worker rewrites every test module's
# asserts, and each of the hundred processes that tests start compiles all it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

if TYPE_CHECKING:
    from engine.batch import Batch
    from engine.models.folder import ModelFolder
    from profiler.events import AnyEvent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--renew-screens", action="store_true", help="keep the screens as they are drawn now"
    )


def pytest_collection_finish() -> None:
    """What all test modules imported stays: to look through half a million objects again and again
    was 15 % of the screens' tests. To look through the newest at every 700th was 5 to 12 %.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)


@pytest.fixture(scope="session")
def smollm2() -> ModelFolder:
    """The default model's folder; skips where it is neither cached nor to be fetched."""
    from engine.errors import ModelError
    from engine.models.registry import DEFAULT_MODEL, ModelRegistry
    from llmtop.paths import cache_dir

    try:
        return ModelRegistry(cache_dir()).resolve(DEFAULT_MODEL)
    except ModelError as error:
        pytest.skip(f"the default model is not here: {error.message}")


@pytest.fixture(scope="session")
def tiny_decoder() -> tuple[Any, Any]:
    """A model small enough to be read token by token, with heads that every format can pack; and
    its backend."""
    import torch

    from engine.cpu.backend import CpuBackend
    from engine.models.config import ModelConfig
    from engine.models.folder import ModelFolder
    from engine.models.weights import load_decoder

    shape = ModelConfig("llama", 2, 64, 96, 2, 1, 64, 320, 1024, random_weights=True)
    backend = CpuBackend(torch.float32, 1)
    return load_decoder(ModelFolder(Path("nowhere"), "tiny", shape), backend, seed=1), backend


@pytest.fixture(scope="session")
def record() -> Callable[[Path, list[AnyEvent]], Path]:
    """A function (path, events) -> path of a session file that the real recorder's tape wrote."""
    from profiler.bus import Bus
    from profiler.follower import Follower
    from profiler.session.tape import Tape

    def write(path: Path, events: list[AnyEvent]) -> Path:
        bus = Bus()
        tape = Tape(path, bus, Follower(bus))
        for number, event in enumerate(events, 1):
            bus.publish(event)
            if number % 200 == 0:
                tape.flush()
        tape.finish()
        return path

    return write


class Part(NamedTuple):
    """Tokens of one sequence at `start`, its pages, and whether all logits or the last are kept."""

    tokens: list[int]
    start: int
    pages: list[int]
    all_logits: bool = True


@pytest.fixture(scope="session")
def batch_of() -> Callable[..., Any]:
    """A function (parts, block_size) -> Batch, where a part is (tokens, start, pages[, all])."""

    def build(parts: list[tuple[Any, ...]], block_size: int) -> Batch:
        import torch

        from engine.batch import Batch

        tokens, positions, slots, starts, rows = [], [], [], [0], []
        named = [Part(*part) for part in parts]
        tables = torch.zeros(len(named), max(len(p.pages) for p in named), dtype=torch.int32)
        for number, part in enumerate(named):
            here = range(part.start, part.start + len(part.tokens))
            tokens += part.tokens
            positions += here
            slots += [part.pages[p // block_size] * block_size + p % block_size for p in here]
            rows += range(starts[-1], len(tokens)) if part.all_logits else [len(tokens) - 1]
            starts.append(len(tokens))
            tables[number, : len(part.pages)] = torch.tensor(part.pages)
        contexts = [part.start + len(part.tokens) for part in named]
        return Batch(
            token_ids=torch.tensor(tokens),
            positions=torch.tensor(positions),
            slots=torch.tensor(slots),
            block_tables=tables,
            query_starts=torch.tensor(starts, dtype=torch.int32),
            context_lens_device=torch.tensor(contexts, dtype=torch.int32),
            logit_rows=torch.tensor(rows),
            query_lens=tuple(len(part.tokens) for part in named),
            context_lens=tuple(contexts),
        )

    return build
