"""`llmtop explain` on sessions with known causes: its text, its JSON, and every query it prints."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
from pathlib import Path

import msgspec
import pytest

from llmtop.cli import main
from llmtop.explained import Episode, explain, text_of
from profiler.bus import Bus
from profiler.events import (
    AnyEvent,
    Phase,
    RequestFinished,
    RequestFirstToken,
    RequestQueued,
    RequestScheduled,
    SessionStart,
    Step,
    StepRow,
)
from profiler.follower import Follower
from profiler.session.tape import Tape

MS, S = 1_000_000, 1_000_000_000


def stalled_session() -> list[AnyEvent]:
    """Two requests decode; a third one's long prompt, in steps of 200 ms, makes them wait."""
    t_ns = 50 * S
    events: list[AnyEvent] = [
        SessionStart(t_ns, 1_770_000_000 * S, "0.1.0", "made-up", "cpu", 1, 10, 16, 1, 1, 9, 9, 9)
    ]
    for number, name in ((1, "cmpl-a"), (2, "cmpl-b"), (3, "cmpl-\x1b[31mred")):
        events += [RequestQueued(t_ns, number, name, 8, 900), RequestScheduled(t_ns, number, 0)]
    events += [RequestFirstToken(t_ns + 10 * MS, 1), RequestFirstToken(t_ns + 10 * MS, 2)]
    for step in range(1, 600):
        stalls = 300 <= step < 303
        rows = (StepRow(1, 0, 1), StepRow(2, 0, 1))
        rows += (StepRow(3, 512, 0),) if stalls else ()
        end_ns = t_ns + (200 if stalls else 10) * MS
        events.append(Step(t_ns, end_ns, step, MS, None, rows, 0, 3, 0, 0, 10))
        t_ns = end_ns
    events.append(RequestFirstToken(t_ns, 3))
    return [
        *events,
        *(RequestFinished(t_ns, n, "stop", m) for n, m in ((1, 599), (2, 599), (3, 1))),
    ]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "session.db"
    bus = Bus()
    tape = Tape(path, bus, Follower(bus))
    for event in stalled_session():
        bus.publish(event)
    tape.finish()
    return path


def test_what_is_printed_can_be_run_and_gives_the_numbers_that_are_claimed(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(recorded), "--slo", "itl_max<150ms"]) == 0
    text = capsys.readouterr().out
    queries = re.findall(r"^  (.+)\n  sql (.+)$", text, re.MULTILINE)
    assert len(queries) == 2 == text.count("  sql ")
    connection = sqlite3.connect(recorded)
    connection.row_factory = sqlite3.Row
    for numbers, sql in queries:
        claimed = {
            name: float(value.replace(",", ""))
            for name, value in (part.rsplit(" ", 1) for part in numbers.split(", "))
        }
        (row,) = connection.execute(sql).fetchall()
        assert {name: row[name] for name in row.keys()} == pytest.approx(claimed, abs=5e-4)
    connection.close()


def test_the_text_names_who_stalled_whom_and_carries_no_control_code(recorded: Path) -> None:
    text = text_of(explain(recorded))
    assert "made-up on cpu" in text and "3 requests" in text
    assert re.search(r"^00:00:0\d  prefill_stall, warning, to the end", text, re.MULTILINE)
    assert "made 2 wait: 1,536 prompt tokens in 3 steps of 200 ms, 10 ms without" in text
    assert "\x1b" not in text


def test_json_says_the_same(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(recorded), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (finding,) = document["findings"]
    assert finding["rule"] == "prefill_stall" and finding["request"] == 3
    assert finding["evidence"] == pytest.approx(
        {"steps": 3, "prefill_tokens": 1536, "mean_ms": 200, "plain_ms": 10}
    )
    assert finding["end_s"] is None and finding["start_s"] < document["duration_s"]


@pytest.mark.parametrize(
    ("gates", "code"),
    [
        (["ttft_max>500ms"], 1),
        (["ttft_max>50s"], 0),
        (["ttft_max>50s", "preemptions>0, tok_s<1"], 0),
        (["ttft_max>50s", "tok_s>1"], 1),
        (["ttft_p99>500ms"], 1),
    ],
)
def test_a_gate_decides_the_exit_code(
    recorded: Path, capsys: pytest.CaptureFixture[str], gates: list[str], code: int
) -> None:
    options = [word for text in gates for word in ("--fail-if", text)]
    assert main(["explain", str(recorded), *options]) == code
    said = capsys.readouterr().err
    assert ("FAILED" in said) == bool(code)
    assert ("p99 needs 100 values" in said) == ("ttft_p99>500ms" in gates)


def test_a_gate_that_cannot_be_read_is_wrong_usage(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(recorded), "--fail-if", "tft_p99>5"]) == 2
    assert "did you mean ttft_p99?" in capsys.readouterr().err


def test_a_session_in_which_nothing_happens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "calm.db"
    bus = Bus()
    tape = Tape(path, bus, Follower(bus))
    for event in stalled_session()[:200]:
        bus.publish(event)
    tape.finish()
    assert main(["explain", str(path)]) == 0
    assert "nothing found" in capsys.readouterr().out


def test_a_recording_that_ended_before_a_model_was_ready_says_so(tmp_path: Path) -> None:
    """And its path can be pasted into a shell, whatever it is called."""
    path = tmp_path / "no model's.db"
    bus = Bus()
    tape = Tape(path, bus, Follower(bus))
    bus.publish(Phase(50 * S, "load"))
    tape.finish()
    explained = explain(path)
    said = text_of(explained).splitlines()[0]
    assert f"{path}: no model was ready, 20" in said
    one = Episode("slow_client", "warning", 0.0, None, "", 0, 0, {}, "SELECT 1")
    told = text_of(msgspec.structs.replace(explained, findings=[one])).splitlines()
    assert shlex.split(told[-1])[2] == str(path)
