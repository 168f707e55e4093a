"""`--once`: one snapshot for scripts, and an exit code they can rely on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from llmtop.cli import main
from llmtop.errors import LlmtopError
from llmtop.once import as_plain, look_once
from llmtop.viewmodel import Connection
from profiler.events import AnyEvent
from profiler.state import SessionState

Record = Callable[[Path, list[AnyEvent]], Path]


@pytest.fixture
def session(
    tmp_path: Path, events: Callable[..., list[AnyEvent]], record: Record
) -> tuple[Path, list[AnyEvent]]:
    told = events(6.0)
    return record(tmp_path / "run.db", told), told


def test_a_replay_prints_where_it_ended_or_what_was_asked_for(
    session: tuple[Path, list[AnyEvent]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, told = session
    assert main(["replay", str(path), "--once", "--json"]) == 0
    end = json.loads(capsys.readouterr().out)
    whole = SessionState()
    for event in told:
        whole.apply(event)
    assert end["requests"]["finished"] == whole.requests.num_finished > 0
    assert end["t_ns"] == whole.t_ns
    assert main(["replay", str(path), "--once", "--json", "--at", "0%"]) == 0
    begin = json.loads(capsys.readouterr().out)
    assert begin["t_ns"] == told[0].t_ns and begin["requests"]["finished"] == 0
    assert begin.keys() == end.keys()


def test_plain_lines_name_the_same_fields(
    session: tuple[Path, list[AnyEvent]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(session[0]), "--once"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["model"] == "smollm2-135m-instruct"
    assert lines["latency.window_s"] == "60"
    assert float(lines["latency.ttft_ms.p95"]) > 0


@pytest.mark.parametrize(
    "wrong", [["--json"], ["--plain"], ["--once", "--json", "--plain"]], ids=" ".join
)
def test_wrong_usage_is_2(wrong: list[str], session: tuple[Path, list[AnyEvent]]) -> None:
    assert main(["replay", str(session[0]), *wrong]) == 2
    assert main(["attach", "http://127.0.0.1:1", *wrong]) == 2


def test_a_server_that_is_not_there_is_3_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attach", "http://127.0.0.1:1", "--once"]) == 3
    assert "no picture of http://127.0.0.1:1: no connection" in capsys.readouterr().err


def test_one_that_goes_away_before_it_has_told_enough_is_3(
    peer: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is found, gives one reading, and is gone before there is a rate."""
    page = (200, "text/plain", b"vllm:num_requests_running 4\n")
    pages = iter([page, page])
    server = peer({"/metrics": lambda: next(pages, (503, "text/plain", b""))})
    assert main(["attach", server.url, "--once", "--json"]) == 3
    told = capsys.readouterr()
    assert told.out == "" and "the server answered with status 503" in told.err


def test_of_several_it_is_3_when_none_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attach", "127.0.0.1:1", "127.0.0.1:2", "--once", "--json"]) == 3
    assert "none of 2 servers can be read: no connection" in capsys.readouterr().err


def test_one_that_answers_with_nothing_to_show_is_1(peer: Callable[..., Any]) -> None:
    html = peer({"/metrics": (200, "text/html", b"<html>")})
    assert main(["attach", html.url, "--once", "--json"]) == 1
    refusing = peer(dict.fromkeys(("/v1/llmtop/hello", "/metrics"), (401, "text/plain", b"")))
    assert main(["attach", refusing.url, "--once", "--json"]) == 1


def test_it_waits_for_the_first_state_but_not_for_good(
    source_of: Callable[[SessionState], Any], busy_state: SessionState
) -> None:
    source = source_of(SessionState())
    naps = 0

    def nap(seconds: float) -> None:
        nonlocal naps
        naps += 1
        if naps == 3:
            source.state = busy_state

    assert look_once(source, sleep=nap).t_ns == busy_state.t_ns
    assert naps == 3 and source.stopped
    silent = source_of(SessionState())
    with pytest.raises(LlmtopError, match="no state within 10 s"):
        look_once(silent, sleep=lambda seconds: None)
    assert silent.stopped


def test_what_a_server_says_cannot_reach_the_terminal_raw(
    source_of: Callable[[SessionState], Any], busy_state: SessionState
) -> None:
    source = source_of(SessionState())
    source.connection = Connection("failed", "bad\x1b[2J\nnews")
    with pytest.raises(LlmtopError) as caught:
        look_once(source)
    assert caught.value.message.isprintable()
    assert busy_state.session is not None
    busy_state.session = msgspec.structs.replace(busy_state.session, model="m\x1b[2J\u202e")
    assert all(
        line.isprintable() for line in as_plain(look_once(source_of(busy_state))).split("\n")
    )
