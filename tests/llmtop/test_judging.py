"""Options that hold something to something: what they take, what they refuse, how they end."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmtop.cli import main
from llmtop.commands.judging import gate
from profiler.conditions import parse_conditions


@pytest.mark.parametrize(
    ("gates", "code", "expected"),
    [
        ("ttft_p95>500ms", 0, 0),
        ("ttft_p95>100ms", 0, 1),
        ("ttft_p99>500ms", 0, 1),
        ("ttft_p95>500ms", 130, 130),
        ("ttft_p95>100ms,tok_s<5", 130, 130),
    ],
)
def test_a_gate_fails_on_what_shows_and_on_what_nobody_knows(
    gates: str, code: int, expected: int
) -> None:
    values = {"ttft_p95": 200.0, "ttft_p99": None, "tok_s": 9.0}
    assert gate(parse_conditions(gates), values, code) == expected


def test_without_a_gate_a_command_ends_as_it_did() -> None:
    assert gate((), {}, 0) == 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["attach", "x", "--slo", "ttft_p98<5"], "did you mean ttft_p9"),
        (["attach", "x", "--slo", "guidellm-cht"], "did you mean guidellm-chat?"),
        (["attach", "x", "--slo", "preemptions<5"], "known only after a run"),
        (["attach", "x", "--alert-webhook", "ftp://there/"], "http://HOST/PATH"),
        (["attach", "x", "--alert-webhook", "http://a b/"], "http://HOST/PATH"),
        (["load", "x", "--fail-if", "ttft_p99>+5%"], "change in percent"),
        (["load", "x", "--slo", "guidellm-chat", "--goodput", "ttft:5"], "exclude each other"),
        (["serve", "--no-record", "--fail-if", "tok_s<5"], "judges the recording"),
        (["serve", "--headless", "--no-observe", "--slo", "guidellm-chat"], "nothing to judge"),
    ],
)
def test_wrong_usage_is_told(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert word in capsys.readouterr().err


@pytest.mark.parametrize(("bound", "code"), [("tok_s<1", 130), ("tok_s>1", 1)])
def test_a_server_that_a_signal_ended_still_fails_its_gate(
    bound: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a dashboard a signal is the only way to end it: its code would say nothing."""
    monkeypatch.setattr("llmtop.commands.serve._run", lambda *_: 130)
    monkeypatch.setattr("profiler.session.summary.session_values", lambda _: {"tok_s": 9.0})
    session = str(tmp_path / "s.db")
    options = ["--headless", "--port", "0", "--session", session, "--fail-if", bound]
    assert main(["serve", "random:tiny", *options]) == code
