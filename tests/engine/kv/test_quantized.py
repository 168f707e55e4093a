"""Wide pages come and go with what is written; sinks keep theirs; no two formats share pages."""

from __future__ import annotations

import pytest

from engine.errors import EngineError
from engine.kv.chain import PageChain
from engine.kv.formats import KV_FORMATS
from engine.kv.kv_config import config_text, layer_formats, read_kv_config
from engine.kv.packed_plan import packed_plan
from engine.kv.quantized import QuantizedKVCache

SIZE = 4


def cache_of(num_pages: int, num_wide: int, num_sinks: int = 1, name: str = "int4"):
    plan = packed_plan([KV_FORMATS[name]], 1, 64, SIZE, 4, num_sinks, 2 * SIZE)
    return QuantizedKVCache(num_pages, SIZE, True, num_wide, plan)


def opened(cache, request, tokens):
    chain = PageChain(tokens, SIZE, cache.root)
    prefix = cache.find_prefix(chain, len(tokens))
    return cache.open(request, chain, len(tokens), prefix), len(prefix) * SIZE


def computed(cache, table, start, count):
    seals = cache.write([(table, start, count)])
    cache.settle(table, start + count)
    cache.check()
    return seals


def test_a_page_is_wide_until_it_is_full():
    cache = cache_of(8, 8)
    table, _ = opened(cache, 1, list(range(10)))
    assert computed(cache, table, 0, 6) == []  # the first page is a sink, the second not full
    assert cache.wide.num_used == 2
    ((wide, packed),) = computed(cache, table, 6, 4)
    assert packed == table.pages[1] and wide != table.targets[2]
    assert cache.wide.num_used == 2  # the sink, and the page that is being filled
    assert table.entries == [8 + cache.wide.of(table.pages[0]), *table.pages[1:]]
    cache.close(table)
    cache.check()
    assert cache.wide.num_used == 1  # the sink stays, cached


def test_a_shared_sink_is_read_where_it_lies():
    cache = cache_of(8, 8)
    first, _ = opened(cache, 1, list(range(9)))
    computed(cache, first, 0, 9)
    second, cached = opened(cache, 2, [*range(8), 77])
    assert cached == 8 and second.entries[:2] == first.entries[:2]
    cache.check()


def test_cached_sinks_make_room_when_wide_pages_run_out():
    cache = cache_of(8, 4)
    for request in range(1, 4):
        table, _ = opened(cache, request, [request] * 5)
        computed(cache, table, 0, 5)
        cache.close(table)
    assert (cache.wide.num_used, cache.pool.num_cached) == (3, 3)
    table, cached = opened(cache, 9, [9] * 12)
    computed(cache, table, 0, 12)
    assert cache.pool.num_cached == 1 and cached == 0  # the two oldest went
    _, cached = opened(cache, 10, [3] * 5)
    assert cached == 4


def test_keys_of_the_prefix_cache_hold_the_format():
    roots = {
        cache_of(8, 8, sinks, name).root
        for name in KV_FORMATS
        if name != "auto"
        for sinks in (0, 1)
    }
    assert len(roots) == 2 * (len(KV_FORMATS) - 1)
    tokens = list(range(SIZE))
    links = {PageChain(tokens, SIZE, root).link(0).digest for root in roots}
    assert len(links) == len(roots)


@pytest.mark.parametrize("name", [name for name in KV_FORMATS if name != "auto"])
def test_formats_survive_their_file(tmp_path, name):
    formats = [KV_FORMATS[name], KV_FORMATS["auto"], KV_FORMATS["k8v4"]]
    (tmp_path / "kv.yaml").write_text(config_text(formats, "made by\na test"))
    assert layer_formats("auto", str(tmp_path / "kv.yaml"), 3) == formats


def test_layers_the_file_leaves_out_are_not_packed(tmp_path):
    file = tmp_path / "kv.yaml"
    file.write_text("1: {nbits_key: 4, nbits_value: 2, asym: false, axis: token}\n")
    first, second = layer_formats("auto", str(file), 2)
    assert not first.is_packed
    assert (second.key.nbits, second.key.axis, second.key.asym) == (4, "token", False)
    assert (second.value.nbits, second.value.group) == (2, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("7: {nbits_key: 4, nbits_value: 4}", "layer 7"),
        ("-1: {nbits_key: 4, nbits_value: 4}", "layer -1"),
        ("0: {nbits_key: 3, nbits_value: 4}", "nbits_key"),
        ("0: {nbits_key: 4}", "nbits_value"),
        ("0: {nbits_key: 4, nbits_value: 4, colour: red}", "colour"),
        ("- 4", "no list of formats"),
        ("0: {nbits_key: [", "no list of formats"),
        ("\x00", "no list of formats"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path, text, said):
    file = tmp_path / "kv.yaml"
    file.write_text(text)
    with pytest.raises(EngineError) as error:
        layer_formats("auto", str(file), 3)
    assert said in error.value.message and "\n" not in error.value.message


def test_two_ways_to_say_it_are_one_too_many(tmp_path):
    with pytest.raises(EngineError, match="both"):
        layer_formats("int4", str(tmp_path / "kv.yaml"), 3)
    with pytest.raises(EngineError, match="cannot be read"):
        read_kv_config(tmp_path / "none.yaml")
