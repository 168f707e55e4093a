"""`llmtop compare` without a terminal: what it prints, refuses and returns."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmtop.cli import main
from llmtop.compare.markdown import markdown
from llmtop.compare.words import SHOWN
from profiler.compare.comparison import compare
from profiler.compare.run import read_run
from profiler.metrics import METRICS

Record = Callable[..., Path]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    return tmp_path


def told(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    code = main(["compare", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def document(capsys: Capture, *arguments: object) -> dict[str, Any]:
    code, out, _ = told(capsys, *arguments, "--json")
    assert code == 0
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    return {row["name"]: row["verdict"] for row in found["metrics"]}


def test_the_same_engine_twice_shows_no_difference(
    capsys: Capture, base: Path, again: Path
) -> None:
    found = document(capsys, base, again)
    assert found["pairs"] == {
        "by": "order", "count": 120, "same_length": 120, "only_a": 0, "only_b": 0,
    }  # fmt: skip
    assert set(verdicts(found).values()) <= {"no difference shown", "too few"}
    assert found["config"] == [] and found["regressions"] == []


def test_few_pages_are_found_out(capsys: Capture, base: Path, few_pages: Path) -> None:
    found = document(capsys, base, few_pages)
    told_so = verdicts(found)
    assert told_so["preemptions"] == "worse"
    assert {told_so[name] for name in ("ttft_p50", "e2el_p50", "queue_p50")} == {"worse"}
    assert {"name": "num_pages", "a": 256, "b": 24} in found["config"]
    assert all(change["name"] != "block_size" for change in found["config"])
    worst = found["regressions"][0]
    assert worst["b_ms"] > worst["a_ms"]
    assert worst["name_a"].startswith("base") and worst["name_b"].startswith("few")


def test_a_smaller_chunk_is_found_out(capsys: Capture, base: Path, recorded: Record) -> None:
    chunked = recorded("chunked", max_num_batched_tokens=16)
    found = document(capsys, base, chunked)
    assert verdicts(found)["prefill_p95"] == "worse"
    assert {"name": "max_num_batched_tokens", "a": 2048, "b": 16} in found["config"]
    assert verdicts(document(capsys, chunked, base))["prefill_p95"] == "better"


def test_tables_are_printed_where_there_is_no_terminal(
    capsys: Capture, base: Path, few_pages: Path
) -> None:
    code, out, err = told(capsys, base, few_pages)
    assert (code, err) == (0, "")
    assert out == markdown(compare(read_run(base), read_run(few_pages))) + "\n"
    tables = [line for line in out.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)
    (preemptions,) = [line for line in tables if line.startswith("| preemptions")]
    assert re.search(r"\| +0 \| +\d+ \| +\+\d+ \|.*\| worse +\|", preemptions)
    assert any("num_pages" in line and "256" in line and "24" in line for line in tables)
    assert "record each side more than once" in out


@pytest.mark.parametrize(
    ("conditions", "code", "outcomes"),
    [
        (["preemptions > 100000"], 0, ["passed"]),
        (["ttft_p50 > +5%"], 1, ["failed"]),
        (["ttft_p50 > +5%", "e2el_p99 > 1ms", "failed_pct > 0"], 1, ["failed", "failed", "passed"]),
        (["ttft_p50 < -5%, itl_p50 > 100s"], 0, ["passed", "passed"]),
        # Nothing is known of it: a gate that looks at nothing lets nothing through.
        (["icl_p50 > 5ms"], 1, ["not available"]),
        (["preemptions > +5%"], 1, ["not available"]),
    ],
)
def test_gates_decide_the_exit_code(
    capsys: Capture,
    base: Path,
    few_pages: Path,
    conditions: list[str],
    code: int,
    outcomes: list[str],
) -> None:
    gates = [part for condition in conditions for part in ("--fail-if", condition)]
    found, out, _ = told(capsys, base, few_pages, *gates)
    assert found == code
    lines = [line for line in out.splitlines() if line.startswith("- ") and "`" in line]
    assert [line[2:].partition(":")[0] for line in lines] == outcomes
    found, out, err = told(capsys, base, few_pages, *gates, "--json")
    assert found == code
    assert [gate["outcome"] for gate in json.loads(out)["gates"]] == outcomes
    assert len(err.splitlines()) == sum(outcome != "passed" for outcome in outcomes)


def test_the_line_that_failed_tells_condition_and_value(
    capsys: Capture, base: Path, few_pages: Path
) -> None:
    _, out, err = told(capsys, base, few_pages, "--fail-if", "e2el_p50 > 1ms", "--json")
    value = json.loads(out)["values_b"]["e2el_p50"]
    assert err == f"failed: e2el_p50>1ms: {value:.4g} ms\n"


def test_another_workload_is_refused_with_what_differs(
    capsys: Capture, base: Path, other_load: Path
) -> None:
    code, out, err = told(capsys, base, other_load)
    assert (code, out) == (1, "")
    first, hint = err.splitlines()
    assert first.startswith("error: A and B were asked different things: prompts of ")
    assert "--anyway" in hint
    code, out, _ = told(capsys, base, other_load, "--anyway")
    assert code == 0 and "- different workloads: prompts of " in out
    assert "do not pair up" in out


def test_goodput_is_shown_for_objectives(capsys: Capture, base: Path, again: Path) -> None:
    assert "good_pct" not in verdicts(document(capsys, base, again))
    found = document(capsys, base, again, "--slo", "ttft_p99<500ms")
    assert 0 <= found["values_a"]["good_pct"] <= 100


@pytest.mark.parametrize(
    "wrong",
    [
        ["--fail-if", "ttft_p42 > 5"],
        ["--fail-if", "ttft_p99"],
        ["--slo", "nonsense"],
        ["--markdown", "--json"],
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(capsys: Capture, base: Path, wrong: list[str]) -> None:
    code, out, err = told(capsys, base, base, *wrong)
    assert (code, out) == (2, "") and err.startswith("error: ")


def test_a_session_is_named_as_for_replay(
    capsys: Capture, home: Path, base: Path, again: Path
) -> None:
    folder = home / "data" / "sessions"
    folder.mkdir(parents=True)
    shutil.copy(base, folder / "20260101-100000-a.db")
    shutil.copy(again, folder / "20260102-100000-b.db")
    found = document(capsys, "20260101", "latest")
    assert Path(found["a"]["path"]).name == "20260101-100000-a.db"
    assert Path(found["b"]["path"]).name == "20260102-100000-b.db"
    code, _, err = told(capsys, "20260101", "20260109")
    assert code == 1 and err.startswith("error: there is no session 20260109\n")


def test_a_file_against_itself_says_so(capsys: Capture, base: Path) -> None:
    code, out, _ = told(capsys, base, base)
    assert code == 0 and "- A and B are the same recording" in out


def test_what_is_no_whole_session_is_one_clear_line(
    capsys: Capture, base: Path, tmp_path: Path
) -> None:
    for name, content in (
        ("empty.db", b""),
        ("foreign.db", b"not a database, but long enough to be looked at" * 40),
        ("cut.db", base.read_bytes()[:9000]),
    ):
        (tmp_path / name).write_bytes(content)
        code, out, err = told(capsys, base, tmp_path / name)
        assert (code, out) == (1, "") and name in err
        assert [line.partition(":")[0] for line in err.splitlines()] == ["error", "hint"]


def test_a_session_that_is_still_written_is_compared_and_told(
    capsys: Capture, base: Path, recorded: Record
) -> None:
    open_still = recorded("open", clean=False)
    code, out, _ = told(capsys, base, open_still)
    assert code == 0 and "B was not closed" in out


def test_the_document_keeps_its_shape(capsys: Capture, base: Path, few_pages: Path) -> None:
    found = document(capsys, base, few_pages, "--fail-if", "tok_s < 0")
    assert found["schema"] == 1
    assert list(found) == [
        "schema", "a", "b", "pairs", "differences", "config", "metrics", "values_a", "values_b",
        "distributions", "regressions", "gates",
    ]  # fmt: skip
    assert list(found["a"]) == [
        "path", "model", "device", "tool_version", "wall_ns", "duration_s", "clean_end",
        "under_way", "workload",
    ]  # fmt: skip
    assert list(found["a"]["workload"]) == [
        "requests", "shapes", "prompt_tokens", "asked_tokens", "output_tokens", "arrivals_per_s",
        "arrival_cv", "peak",
    ]  # fmt: skip
    assert list(found["metrics"][0]) == [
        "name", "unit", "better", "a", "b", "change", "change_pct", "low", "high", "low_pct",
        "high_pct", "verdict", "n_a", "n_b", "drawn", "units",
    ]  # fmt: skip
    assert list(found["regressions"][0]) == [
        "latency", "request_a", "request_b", "name_a", "name_b", "prompt_tokens",
        "output_tokens_b", "a_ms", "b_ms", "t_done_a_ns", "t_done_b_ns",
    ]  # fmt: skip
    assert list(found["distributions"][0]) == ["latency", "shares", "a", "b"]
    assert list(found["gates"][0]) == ["condition", "value", "text", "outcome"]


def test_hostile_words_of_a_file_do_not_reach_the_terminal(
    capsys: Capture, recorded: Record, base: Path
) -> None:
    hostile = recorded("\x1b[2J\u202ex|y")
    code, out, _ = told(capsys, hostile, base, "--anyway")
    assert code == 0 and "\x1b" not in out and "\u202e" not in out


def test_what_is_shown_is_in_the_registry() -> None:
    assert set(SHOWN) <= set(METRICS)
