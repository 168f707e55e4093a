"""Causal attention over pages, compiled for this processor."""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call"

from __future__ import annotations

import numpy as np
from numba import carray, njit

from engine.cpu.compiled import FIRST, SCRATCH, SCRATCH_BYTES, jit_body
from engine.cpu.lanes import (
    LANE_BYTES,
    LANES,
    add_products,
    as_float,
    ints_at,
    longs_at,
    prefetch_line,
    take,
)
from engine.cpu.openmp import thread_number
from engine.cpu.rows import load, row_at, size_of, store
from engine.cpu.unpack import LAYOUT_WORDS, unpack_keys, unpack_values
from engine.cpu.widen import widen_keys, widen_values

# Below every score and finite: what is masked weighs 0, never NaN.
NO_SCORE = np.float32(-1e30)


@njit(fastmath=True)
def exp2(x):
    """2 ** x for x <= 0, within 3e-7 of it; a polynomial for the fraction, so that it vectorizes.

    Source: minimax fit of degree 5 on [0, 1).
    """
    x = max(x, np.float32(-126.0))
    whole = np.floor(x)
    rest = x - whole
    p = np.float32(1.8775767e-3)
    p = p * rest + np.float32(8.9893397e-3)
    p = p * rest + np.float32(5.5826318e-2)
    p = p * rest + np.float32(2.4015361e-1)
    p = p * rest + np.float32(6.9315308e-1)
    p = p * rest + np.float32(1)  # not 0.99999994: a lone weight is 1
    return p * as_float((np.int32(whole) + np.int32(127)) << np.int32(23))


@njit(fastmath=True)
def weigh(scores, top, low, high):
    """Turns LANES scores into 2 ** (score - new top) where low <= t < high and 0 elsewhere.

    Returns the largest score so far and the sum of the weights.
    """
    s = row_at(scores, LANES)
    for t in range(LANES):
        s[t] = s[t] if low <= t < high else NO_SCORE
        top = max(top, s[t])
    total = np.float32(0)
    for t in range(LANES):
        s[t] = exp2(s[t] - top) if low <= t < high else np.float32(0)
        total += s[t]
    return top, total


@njit
def find_page(source, page, head):
    """Where one head of a page lies, how many bytes that are, and whether it is packed.

    `source` is the wide pages' address and bytes a head, the records' likewise, how many pages are
    packed (table entries from there on are wide pages) and the number of KV heads.
    """
    wide, wide_bytes, records, record_bytes, num_packed, num_heads = source
    if page < num_packed:
        return records + (page * num_heads + head) * record_bytes, record_bytes, True
    return wide + ((page - num_packed) * num_heads + head) * wide_bytes, wide_bytes, False


@njit
def own_page_of(slots_at, row, block_size, num_packed):
    """The table entry of the page that the token of this row is written to."""
    slots = carray(longs_at(slots_at), (row + 1,))
    return slots[row] // block_size + num_packed


@njit
def prefetch_pages(table, start, end, block_size, source, head):
    """The K and V of one head that the tokens from `start` on need, LANES of them at most."""
    last = min(start + LANES, end) - 1
    for number in range(start // block_size, last // block_size + 1):
        page, num_bytes, _ = find_page(source, np.int64(table[number]), head)
        for offset in range(0, num_bytes, 64):
            prefetch_line(page + offset)


@njit
def first_seen(position, window, block_size):
    """Where the page begins that holds the first token that `position` sees."""
    return max(0, position - window + 1) // block_size * block_size


@jit_body
def attend(words):
    """Causal attention of tiles of queries over their sequences' pages, each tile head by head.

    A tile is (sequence, first row of q, tokens, position of the first). Its rows are its tokens'
    queries of one KV head. Source: online softmax as in Dao et al., FlashAttention, 2022.
    """
    w = carray(words, (FIRST + 20,))
    kind, q, out, pages, tables, tiles_at = w[4], w[5], w[6], w[7], w[8], w[9]
    num_tiles, num_kv_heads, group, head_dim, block_size = w[10], w[11], w[12], w[13], w[14]
    width, q_stride, window, tile_rows = w[15], w[16], w[17], w[18]
    scale = as_float(np.int32(w[19]))
    records, num_packed, slots_at, layout_at = w[20], w[21], w[22], w[23]
    size = size_of(kind)
    layout = carray(longs_at(layout_at), (LAYOUT_WORDS,))
    source = (pages, 2 * head_dim * block_size * size, records, layout[0], num_packed, num_kv_heads)
    padded = (head_dim + LANES - 1) // LANES * LANES
    keys = w[SCRATCH] + np.int64(thread_number()) * w[SCRATCH_BYTES]
    values = keys + head_dim * LANE_BYTES
    scores = values + padded * LANE_BYTES
    queries = scores + tile_rows * LANE_BYTES
    sums = queries + tile_rows * padded * 4
    tops = row_at(sums + tile_rows * padded * 4, tile_rows)
    totals = row_at(sums + tile_rows * (padded + 1) * 4, tile_rows)
    tiles = carray(longs_at(tiles_at), (num_tiles, 4))
    num_units = num_tiles * num_kv_heads
    upcoming = take(words)
    while upcoming < num_units:
        tile, head = tiles[upcoming // num_kv_heads], upcoming % num_kv_heads
        upcoming = take(words)
        first_row, num_tokens, position = tile[1], tile[2], tile[3]
        table = carray(ints_at(tables + tile[0] * width * 4), (width,))
        for row in range(num_tokens * group):
            token, query = first_row + row // group, head * group + row % group
            x = row_at(queries + row * padded * 4, padded)
            total = row_at(sums + row * padded * 4, padded)
            load(q + (token * q_stride + query * head_dim) * size, kind, x, head_dim)
            for d in range(head_dim):
                x[d] *= scale
            for d in range(padded):
                total[d] = 0
            tops[row], totals[row] = NO_SCORE, 0
        end = position + num_tokens
        own_page = own_page_of(slots_at, first_row, block_size, num_packed)
        for start in range(first_seen(position, window, block_size), end, LANES):
            num_cached = min(LANES, end - start)
            # What comes next is on its way from memory while this is computed.
            if start + LANES < end:
                prefetch_pages(table, start + LANES, end, block_size, source, head)
            elif upcoming < num_units:
                other = tiles[upcoming // num_kv_heads]
                later = first_seen(other[3], window, block_size)
                other_table = carray(ints_at(tables + other[0] * width * 4), (width,))
                other_end, other_head = other[3] + other[2], upcoming % num_kv_heads
                prefetch_pages(other_table, later, other_end, block_size, source, other_head)
            for number in range(start // block_size, (start + num_cached - 1) // block_size + 1):
                page = np.int64(table[number])
                # Of packed pages a tile's own is still wide, whatever it becomes in this step.
                if num_packed and number == position // block_size:
                    page = own_page
                begin = max(start, number * block_size)
                first = begin - number * block_size
                count = min(start + num_cached, (number + 1) * block_size) - begin
                column = begin - start
                at, _, is_packed = find_page(source, page, head)
                to_keys, to_values = keys + column * 4, values + column * LANE_BYTES
                if is_packed:
                    unpack_keys(at, layout, kind, to_keys, first, count, head_dim, block_size)
                    unpack_values(at, layout, kind, to_values, first, count, head_dim, block_size)
                else:
                    widen_keys(at, kind, to_keys, first, count, head_dim, block_size)
                    rows = at + head_dim * (block_size + first) * size
                    widen_values(rows, kind, to_values, count, head_dim)
            for row in range(num_tokens * group):
                at = scores + row * LANE_BYTES
                s = row_at(at, LANES)
                for t in range(LANES):
                    s[t] = 0
                add_products(at, queries + row * padded * 4, keys, head_dim)
                seen = position + row // group - start + 1
                top, weight = weigh(at, tops[row], seen - window, min(num_cached, seen))
                shrink = exp2(tops[row] - top)
                totals[row] = totals[row] * shrink + weight
                tops[row] = top
                total = row_at(sums + row * padded * 4, padded)
                for d in range(padded):
                    total[d] *= shrink
            for row in range(num_tokens * group):
                for d in range(0, padded, LANES):
                    add_products(
                        sums + (row * padded + d) * 4,
                        scores + row * LANE_BYTES,
                        values + d * LANE_BYTES,
                        num_cached,
                    )
        for row in range(num_tokens * group):
            token, query = first_row + row // group, head * group + row % group
            total = row_at(sums + row * padded * 4, padded)
            part = np.float32(1) / totals[row]
            for d in range(head_dim):
                total[d] *= part
            row_out = out + (token * num_kv_heads * group + query) * head_dim * size
            store(row_out, kind, total, head_dim)
