"""What is sent makes the old row the new one, wide characters included."""

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import get_character_cell_size

from llmtop.widgets.cells import cells_in, changed_runs, stretch
from llmtop.widgets.rows import Row, exact_row, is_plain, plain, width_of
from llmtop.widgets.wrapping import wrapped

WIDTH = 24
texts = st.text(st.sampled_from("ab ·█░│結果한e\u0301é▶✖\x1b\x07\n"), max_size=12)
rows = st.lists(st.tuples(texts, st.sampled_from(["text", "dim", "bad"])), max_size=6).map(tuple)


def test_what_is_plain_takes_one_cell_and_controls_nothing() -> None:
    characters = [chr(point) for point in range(0x10000) if is_plain(chr(point))]
    assert {"─", "▶", "↓", "⣿", "✖"} <= set(characters)
    assert {get_character_cell_size(character) for character in characters} == {1}
    assert all(character.isprintable() for character in characters)


@given(rows)
def test_a_row_takes_exactly_its_width_and_controls_nothing(row: Row) -> None:
    exact = exact_row(row, WIDTH)
    assert width_of(exact) == WIDTH
    assert all(character.isprintable() or character == "\u0301" for character in plain(exact))
    cells = cells_in(exact)
    assert len(cells.chars) == len(cells.roles) == WIDTH
    assert "".join(cells.chars) == plain(exact).lstrip("\u0301")


@given(rows, rows)
def test_the_changed_stretches_turn_the_old_row_into_the_new_one(old: Row, new: Row) -> None:
    before, after = cells_in(exact_row(old, WIDTH)), cells_in(exact_row(new, WIDTH))
    screen = list(zip(*before, strict=True))
    for first, count in changed_runs(before, after):
        sent = cells_in(stretch(after, first, count))
        screen[first : first + len(sent.chars)] = zip(*sent, strict=True)
    assert screen == list(zip(*after, strict=True))


@given(rows, rows)
def test_no_cell_is_sent_that_is_far_from_a_change(old: Row, new: Row) -> None:
    before, after = cells_in(exact_row(old, WIDTH)), cells_in(exact_row(new, WIDTH))
    pairs = zip(zip(*before, strict=True), zip(*after, strict=True), strict=True)
    differ = [x for x, (a, b) in enumerate(pairs) if a != b]
    sent = [x for first, count in changed_runs(before, after) for x in range(first, first + count)]
    assert set(differ) <= set(sent)
    assert all(
        {first, first + count - 1} <= set(differ) for first, count in changed_runs(before, after)
    )


def test_a_row_that_stays_sends_nothing_and_neighbours_go_together() -> None:
    old = cells_in((("aaaaaaaaaaaaaaaaaaaa", "text"),))
    assert changed_runs(old, old) == []
    new = cells_in((("abaaabaaaaaaaaaaaaab", "text"),))
    assert changed_runs(old, new) == [(1, 5), (19, 1)]


@given(st.text(st.sampled_from("ab  結果한-\n"), max_size=60), st.integers(2, 20))
def test_wrapped_text_fits_and_keeps_every_word(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert all(width_of(((line, "text"),)) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_a_mark_on_a_wide_character_is_sent_with_it() -> None:
    old, new = cells_in((("果a", "text"),)), cells_in((("果\u0301a", "text"),))
    assert new.chars == ["果\u0301", "", "a"]
    assert changed_runs(old, new) == [(0, 1)]
