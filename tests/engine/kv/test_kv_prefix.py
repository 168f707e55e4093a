"""Prefixes are found by content, and never by a digest alone."""

from __future__ import annotations

from engine.kv.cache import PagedKVCache
from engine.kv.chain import ChainLink, PageChain
from engine.kv.prefix import PrefixCache


def test_a_link_depends_on_all_tokens_before_it():
    one = PageChain([1, 2, 3, 4, 5, 6], 2)
    other = PageChain([9, 2, 3, 4, 5, 6], 2)
    assert one.link(2).block == other.link(2).block
    assert one.link(2).digest != other.link(2).digest
    assert one.link(2).parent == one.link(1).digest
    assert one.link(0) == PageChain([1, 2], 2).link(0)


def test_the_chain_follows_a_growing_list():
    tokens = [1, 2]
    chain = PageChain(tokens, 2)
    chain.link(0)
    tokens.extend([3, 4])
    assert chain.link(1) == PageChain([1, 2, 3, 4], 2).link(1)


def test_equal_digests_of_different_tokens_do_not_match():
    prefix = PrefixCache()
    assert prefix.insert(ChainLink(b"same", b"", b"one"), 5)
    assert prefix.find(ChainLink(b"same", b"", b"two")) is None
    assert prefix.find(ChainLink(b"same", b"parent", b"one")) is None
    assert not prefix.insert(ChainLink(b"same", b"", b"two"), 6)
    assert prefix.find(ChainLink(b"same", b"", b"one")) == 5


def fill(kv: PagedKVCache, request: int, tokens: list[int]) -> int:
    """Runs a request through the cache; how many of its tokens were found there."""
    chain = PageChain(tokens, kv.block_size)
    found = kv.find_prefix(chain, len(tokens))
    table = kv.open(request, chain, len(tokens), found)
    kv.settle(table, len(tokens))
    kv.check()
    kv.close(table)
    kv.check()
    return len(found) * kv.block_size


def test_the_longest_common_prefix_of_whole_pages_is_found():
    kv = PagedKVCache(16, 4)
    assert fill(kv, 1, list(range(10))) == 0
    assert fill(kv, 2, list(range(10))) == 8
    assert fill(kv, 3, [*range(6), 99, 98, 97]) == 4
    assert fill(kv, 4, [5, 6, 7, 8, 9]) == 0
    assert (kv.prefix.hit_tokens, kv.prefix.query_tokens) == (12, 34)


def test_a_prompt_of_whole_pages_still_computes_its_last_page():
    kv = PagedKVCache(16, 4)
    fill(kv, 1, list(range(8)))
    assert fill(kv, 2, list(range(8))) == 4


def test_evicted_pages_are_not_found_and_tails_go_first():
    kv = PagedKVCache(4, 4)
    fill(kv, 1, list(range(16)))
    fill(kv, 2, [100, 101, 102, 103])
    assert fill(kv, 3, list(range(16))) == 12


def test_prefix_caching_can_be_off():
    kv = PagedKVCache(8, 4, enable_prefix_caching=False)
    assert fill(kv, 1, list(range(8))) == 0
    assert fill(kv, 2, list(range(8))) == 0
    assert kv.pool.num_free == 8
    assert kv.prefix.query_tokens == 0


def test_a_twin_of_a_sealed_page_stays_private():
    kv = PagedKVCache(8, 4)
    tables = []
    for request in (1, 2):  # both start before either is sealed
        chain = PageChain([7] * 5, 4)
        tables.append(kv.open(request, chain, 5, []))
    for table in tables:
        kv.settle(table, 5)
        kv.check()
    kv.close(tables[1])
    kv.close(tables[0])
    kv.check()
    assert (kv.pool.num_cached, kv.pool.num_free) == (1, 7)
