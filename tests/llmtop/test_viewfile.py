"""`e` and `!`: what is on the screen, kept for its owner alone, where it is said to be."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from llmtop.app import LlmtopApp
from llmtop.paths import exports_dir, pictures_dir
from llmtop.viewfile import rows_of, save_view
from llmtop.viewmodel import Connection, View, ViewModel
from profiler.state import SessionState

TextOf = Callable[[Any], str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    return tmp_path


def view_of(state: SessionState, **choices: Any) -> View:
    return View(state, ViewModel(**choices), "LIVE", Connection("connected"))


def test_requests_are_those_of_the_table_in_its_order(busy_state: SessionState) -> None:
    view = view_of(busy_state, page="requests", sort="ttft")
    assert view.model.set_filter("phase==decode") == ""
    name, rows = rows_of(view)
    table = view.model.table(busy_state)
    assert name == "requests"
    assert [row["request"] for row in rows] == [request.request for request in table]
    assert 0 < len(rows) < len(busy_state.requests.live) + len(busy_state.requests.done)
    assert [row["ttft"] for row in rows] == [
        None if r.ttft_ns is None else r.ttft_ns / 1e6 for r in table
    ]


def test_an_open_request_gives_its_tokens(busy_state: SessionState) -> None:
    request = busy_state.requests.done[-1]
    view = view_of(busy_state, page="requests", selected=request.request, detail=True)
    name, rows = rows_of(view)
    assert name == f"request-{request.request}"
    assert len(rows) == request.num_output_tokens
    assert [row["since_last_token_ns"] for row in rows][1:] == request.itl_ns
    assert rows[0]["since_last_token_ns"] is None


def test_pages_sum_to_what_the_fold_counts(busy_state: SessionState) -> None:
    _, rows = rows_of(view_of(busy_state, page="kv"))
    assert len(rows) == busy_state.pages.num_pages
    assert sum(row["state"] == "free" for row in rows) == busy_state.pages.free


@pytest.mark.parametrize("page", ["overview", "requests", "kv", "gpu", "log"])
def test_csv_and_json_hold_the_same_rows(page: str, busy_state: SessionState, home: Path) -> None:
    view = view_of(busy_state, page=page)
    _, rows = rows_of(view)
    document = json.loads(save_view(view, "json", home).read_bytes())
    assert (document["page"], document["rows"]) == (page, rows)
    assert document["t_ns"] == busy_state.t_ns
    path = save_view(view, "csv", home)
    with path.open(newline="") as file:
        read = list(csv.DictReader(file))
    assert len(read) == len(rows)
    for row, cells in zip(rows, read, strict=True):
        assert cells == {name: "" if v is None else str(v) for name, v in row.items()}
    assert path.stat().st_mode & 0o777 == 0o600


async def test_e_asks_for_a_form_and_says_where_the_file_is(
    busy_source: Any, text_of: TextOf
) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(160, 40)) as pilot:
        await pilot.pause()
        app.frame()
        await pilot.press("2", "e")
        await pilot.pause()
        assert "export as" in text_of(app)
        await pilot.press("x", "enter")
        await pilot.pause()
        assert "write csv or json" in text_of(app)
        assert not exports_dir().exists()
        await pilot.press("backspace", *"csv", "enter")
        await pilot.pause()
        (file,) = exports_dir().iterdir()
        assert file.name.endswith("-requests.csv")
        assert exports_dir().stat().st_mode & 0o777 == 0o700
        assert "export as" not in text_of(app)


async def test_the_picture_is_the_screen_and_its_owners(busy_source: Any) -> None:
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.frame()
        await pilot.press("exclamation_mark")
        await pilot.pause()
        (file,) = pictures_dir().iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        text = "".join(ElementTree.fromstring(file.read_text()).itertext()).replace("\xa0", " ")
        assert "LIVE" in text and "running 8" in text


async def test_a_folder_that_cannot_be_written_is_told_on_the_screen(
    busy_source: Any, home: Path, text_of: TextOf
) -> None:
    (home / "data").write_text("no folder")
    app = LlmtopApp(busy_source)
    async with app.run_test(size=(160, 40)) as pilot:
        await pilot.pause()
        app.frame()
        await pilot.press("exclamation_mark", "e", "enter")
        await pilot.pause()
        assert "cannot write" in text_of(app)
