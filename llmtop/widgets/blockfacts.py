"""What another server's prefix cache holds, and what is known of the block under the cursor."""

from __future__ import annotations

from itertools import islice

from llmtop.format import grouped, percent, seconds
from llmtop.viewmodel import View
from llmtop.widgets.panel import Panel
from llmtop.widgets.rows import EMPTY, Row, Span
from llmtop.widgets.wrapping import wrapped
from profiler.folds.hashedblocks import HashedBlocks
from profiler.state import SessionState

# A million tokens in the smallest blocks that vLLM has.
_MAX_CHAIN = 65_536


class BlockFacts(Panel):
    about = (
        "Blocks by what is known of them. The server's own usage counts what requests have now, "
        "full or not, and not what is cached without a request; a hashed block may be either."
    )

    def title(self, view: View) -> Row:
        return (("Prefix cache", "title"),)

    def body(self, view: View, width: int, height: int) -> list[Row]:
        state = view.state
        rows = [*_held(state), *_by_rank(state.blocks), *_moved(state.blocks), *_usage(state)]
        rows += [EMPTY, *_cursor(state, view.model.cursor_page)]
        return [line for row in rows for line in _fitted(row, width)]


def _fitted(row: Row, width: int) -> list[Row]:
    """Long lines are words alone."""
    if len(row) != 1 or len(row[0][0]) <= width:
        return [row]
    return [((line, row[0][1]),) for line in wrapped(row[0][0], width)]


def _held(state: SessionState) -> list[Row]:
    blocks = state.blocks
    total, capacity = blocks.num_blocks(), state.foreign.gauge("kv_blocks")
    row: Row = (("hashed   ", "dim"), (f"{grouped(total)} blocks", "value"))
    if capacity:
        usable = _usable(state, capacity)
        row += ((f" of {grouped(usable)}, {percent(total, usable)}", "value"),)
    copies = total - blocks.num_distinct
    told: Row = (("distinct ", "dim"), (grouped(blocks.num_distinct), "value"))
    told += ((f", {grouped(copies)} copies", "value"),)
    rows = [row, told]
    if len(blocks.mediums) > 1:
        parts = [
            f"{name or 'untold'} {grouped(blocks.num_blocks(name))}" for name in blocks.mediums
        ]
        rows.append((("where    ", "dim"), (", ".join(parts), "value")))
    return rows


def _usable(state: SessionState, capacity: float) -> float:
    """One block of each rank's pool stands for "none" and holds nothing."""
    return capacity - max(1, len(state.blocks.ranks))


def _by_rank(blocks: HashedBlocks) -> list[Row]:
    if len(blocks.ranks) < 2:
        return []
    parts = [
        f"{rank}: {grouped(blocks.num_blocks(rank=rank))}{'' if facts.whole else '+'}"
        for rank, facts in sorted(blocks.ranks.items())
    ]
    rows: list[Row] = [(("by rank  ", "dim"), (", ".join(parts), "value"))]
    if not blocks.whole:
        rows.append((("         ", "dim"), ("+ older ones are not known", "dim")))
    return rows


def _moved(blocks: HashedBlocks) -> list[Row]:
    row: Row = (("stored   ", "dim"), (grouped(blocks.stored), "value"))
    row += ((", gone ", "dim"), (grouped(blocks.removed), "value"))
    if blocks.strangers:
        row += ((f", and {grouped(blocks.strangers)} from before", "dim"),)
    return [row]


def _usage(state: SessionState) -> list[Row]:
    usage, capacity = state.foreign.gauge("kv_usage"), state.foreign.gauge("kv_blocks")
    if usage is None or not capacity:
        return []
    used = round(usage * _usable(state, capacity))
    row: Row = (("in use   ", "dim"), (f"{grouped(used)} blocks, {percent(usage, 1.0)}", "value"))
    idle = state.blocks.num_blocks() - used
    rows: list[Row] = [(*row, (" by requests", "dim"))]
    if idle > 0 and len(state.blocks.mediums) == 1:
        rows.append(
            (("idle     ", "dim"), (f"{grouped(idle)} or more", "value"), (" of the hashed", "dim"))
        )
    return rows


def _cursor(state: SessionState, block: int) -> list[Row]:
    blocks = state.blocks
    if not 0 <= block < blocks.num_numbers or not blocks.copies[block]:
        return []
    chain = list(islice(blocks.chain(block), _MAX_CHAIN))
    end = sum(blocks.tokens[at] for at in chain)
    known = blocks.parent(chain[-1]) == -1
    place = f"tokens {grouped(end - blocks.tokens[block])} to {grouped(end - 1)} of its prompt"
    if not known:
        place = f"{blocks.tokens[block]} tokens; what lies before it is not known"
    since = blocks.t_stored_ns[block]
    when = f"stored {seconds(state.t_ns - since)} ago" if since else "stored before this looked"
    of = f" of rank {blocks.rank(block)}" if len(blocks.ranks) > 1 else ""
    return [
        (
            (f"block {grouped(block)}{of}  ", "key"),
            (f"{blocks.copies[block]} there, ", "value"),
            _ways(blocks.num_children[block]),
        ),
        ((place, "text"),),
        ((when, "text"),),
    ]


def _ways(num_children: int) -> Span:
    if not num_children:
        return ("nothing behind it", "text")
    return (f"goes on {num_children} way{'' if num_children == 1 else 's'}", "text")
