"""Which prefixes prompts of another server have in common: where its hashed blocks fork."""

from __future__ import annotations

from heapq import nlargest
from typing import Final, NamedTuple

from profiler.block_events import FIRST, UNTOLD
from profiler.folds.hashedblocks import HashedBlocks

# Of the forks whose block came last, and of the blocks that lead to them; older ones are left out.
MAX_FORKS: Final = 512
MAX_STEPS: Final = 8192


class SharedPrefix(NamedTuple):
    """Blocks behind each other, first to last, after which prompts part `ways` ways.

    `depth` is how many such runs lie before it, `start` the tokens; `tokens` are its own. `first`
    is False where what lies before it is not known.
    """

    depth: int
    start: int
    blocks: tuple[int, ...]
    tokens: int
    ways: int
    first: bool


def shared_prefixes(blocks: HashedBlocks) -> list[SharedPrefix]:
    """Depth first: behind each run those that go on from it, in the order of their numbers."""
    shared = _leading_to_forks(blocks)
    children: dict[int, list[int]] = {}
    for block in shared:
        before = blocks.parent(block)
        known = before in shared or before == FIRST
        children.setdefault(before if known else UNTOLD, []).append(block)
    roots = [(0, 0, block) for top in (UNTOLD, FIRST) for block in sorted(children.get(top, ()))]
    found, waiting = [], roots
    while waiting:
        depth, start, first = waiting.pop()
        run = _run(blocks, children, first)
        tokens = sum(blocks.tokens[block] for block in run)
        ways = blocks.num_children[run[-1]]
        top = depth > 0 or blocks.parent(first) == FIRST
        found.append(SharedPrefix(depth, start, run, tokens, ways, top))
        behind = sorted(children.get(run[-1], ()), key=lambda block: -block)
        waiting += [(depth + 1, start + tokens, block) for block in behind]
    return found


def _leading_to_forks(blocks: HashedBlocks) -> set[int]:
    found: set[int] = set()
    for fork in nlargest(MAX_FORKS, blocks.forks, key=blocks.born.__getitem__):
        for block in blocks.chain(fork):
            if block in found or len(found) >= MAX_STEPS:
                break
            found.add(block)
    return found


def _run(blocks: HashedBlocks, children: dict[int, list[int]], first: int) -> tuple[int, ...]:
    """The blocks from `first` on up to the next fork."""
    run = [first]
    while blocks.num_children[run[-1]] == 1 and children.get(run[-1]):
        run.append(children[run[-1]][0])
    return tuple(run)
