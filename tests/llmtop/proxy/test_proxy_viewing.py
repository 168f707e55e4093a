"""What a viewer chose on the proxy's command line reaches its dashboard."""

from __future__ import annotations

from typing import Any

import pytest

from llmtop.cli import main
from llmtop.viewing import Viewing


def test_every_choice_of_the_viewer_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Viewing] = []

    def run(config: Any, listener: Any, headless: bool, viewing: Viewing) -> int:
        seen.append(viewing)
        return 0

    monkeypatch.setattr("llmtop.commands.proxy._run", run)
    line = ["proxy", "--upstream", "http://127.0.0.1:9", "--port", "0", "--no-record"]
    assert main([*line, "--privacy", "--readonly", "--ascii"]) == 0
    assert main(line) == 0
    assert seen[0] == Viewing(privacy=True, readonly=True, ascii=True)
    assert seen[1] == Viewing()
