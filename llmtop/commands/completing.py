"""What a shell completes besides names of commands and options; files where nothing else fits."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def sessions(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
    """Recordings by name, the newest first."""
    from llmtop.commands.session_files import LATEST, session_files
    from llmtop.paths import sessions_dir

    files = reversed(session_files(sessions_dir()))
    return _chosen([LATEST, *(file.stem for file in files)], typed)


def models(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
    """Models that have a name; none where the engine's libraries are missing."""
    try:
        from engine.models.registry import ModelRegistry
    except ImportError:
        return _chosen([], typed)
    from llmtop.paths import cache_dir

    return _chosen([model.name for model in ModelRegistry(cache_dir()).list()], typed)


def objectives(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
    """Presets."""
    from profiler.objectives import PRESETS

    return [CompletionItem(name) for name in PRESETS if name.startswith(typed)]


def _chosen(names: list[str], typed: str) -> list[CompletionItem]:
    found = [CompletionItem(name) for name in names if name.startswith(typed)]
    return found or [CompletionItem(typed, type="file")]
