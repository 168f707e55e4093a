"""Whatever an event says, it says after every journey: as JSON, as a row, packed."""

from __future__ import annotations

import types
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profiler.events import (
    EVENT_BY_KIND,
    EVENT_TYPES,
    Event,
    PageForm,
    PageRun,
    PageSpan,
    StepRow,
    decode_event,
    encode_event,
    kind_of,
)
from profiler.session.packed import Packer
from profiler.session.schema import EVENT_CODECS

INT64 = st.integers(-(2**63), 2**63 - 1)
WORDS = st.text(st.characters(codec="utf-8"), max_size=20)
PLAIN = {
    int: INT64,
    str: WORDS,
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
}


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    if hint in PLAIN:
        return PLAIN[hint]
    if hint is type(None):
        return st.none()
    if get_origin(hint) in (Union, types.UnionType):
        return st.one_of([values_of(arg) for arg in get_args(hint)])
    if get_origin(hint) is tuple:
        return st.lists(values_of(get_args(hint)[0]), max_size=6).map(tuple)
    if get_origin(hint) is dict:
        return st.dictionaries(WORDS, values_of(get_args(hint)[1]), max_size=4)
    if issubclass(hint, msgspec.Struct):
        return structs_of(hint)
    raise TypeError(f"no strategy for {hint}")


def structs_of(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    fields = {f.name: values_of(hints[f.name]) for f in msgspec.structs.fields(kind)}
    return st.builds(kind, **fields)


def same(one: Event, other: Event) -> bool:
    """Equal, and a number that was whole is so still: 1 is not 1.0 in a configuration."""
    return one == other and type(one) is type(other)


quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
def test_json_and_back(kind: type[Event]) -> None:
    @quick
    @given(structs_of(kind))
    def holds(event: Any) -> None:
        assert same(decode_event(encode_event(event)), event)

    holds()


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
def test_row_and_back(kind: type[Event]) -> None:
    codec = EVENT_CODECS[str(kind.__struct_config__.tag)]

    @quick
    @given(structs_of(kind))
    def holds(event: Any) -> None:
        assert same(codec.from_row(codec.to_row(event)), event)

    holds()


def test_every_kind_has_a_table() -> None:
    assert set(EVENT_CODECS) == set(EVENT_BY_KIND)
    assert len({kind.__name__ for kind in EVENT_TYPES}) == len(EVENT_BY_KIND)


def test_kind_is_the_name_in_snake_case() -> None:
    from profiler.events import GpuAbsent, RequestFirstToken

    assert kind_of(GpuAbsent(0, "none")) == "gpu_absent"
    assert kind_of(RequestFirstToken(0, 1)) == "request_first_token"


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"kind":"step"}', b'{"kind":"nonsense"}'])
def test_foreign_json_is_refused(data: bytes) -> None:
    with pytest.raises((msgspec.ValidationError, msgspec.DecodeError)):
        decode_event(data)


@pytest.mark.parametrize("kind", [StepRow, PageRun, PageSpan, PageForm])
def test_packing_and_back(kind: type[msgspec.Struct]) -> None:
    packer: Packer[Any] = Packer(kind)

    @quick
    @given(st.lists(structs_of(kind), max_size=300).map(tuple))
    def holds(items: tuple[Any, ...]) -> None:
        assert packer.unpack(packer.pack(items)) == items

    holds()


@quick
@given(st.binary(max_size=200))
def test_unpacking_noise_is_a_value_error_or_a_list(data: bytes) -> None:
    try:
        items = Packer(PageRun).unpack(data)
    except ValueError:
        return
    assert all(isinstance(item, PageRun) for item in items)


def test_a_long_list_is_compressed() -> None:
    spans = tuple(PageSpan(i, 1, i // 7, 1, True) for i in range(20_000))
    packer = Packer(PageSpan)
    assert len(packer.pack(spans)) < 20_000
    assert packer.unpack(packer.pack(spans)) == spans
