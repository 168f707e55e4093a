from pathlib import Path

import pytest

from llmtop import paths


def test_home_moves_everything_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    folders = [paths.data_dir(), paths.cache_dir(), paths.config_dir(), paths.state_dir()]
    assert len(set(folders)) == 4
    assert all(folder.parent == tmp_path for folder in folders)
    assert paths.sessions_dir().parent == paths.data_dir()
    assert list(tmp_path.iterdir()) == [], "naming a folder does not make it"


def test_home_may_be_written_with_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTOP_HOME", "~/elsewhere")
    assert paths.cache_dir() == Path.home() / "elsewhere" / "cache"


def test_without_home_the_platform_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMTOP_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere/cache")
    assert paths.cache_dir() == Path("/somewhere/cache/llmtop")
