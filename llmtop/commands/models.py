from __future__ import annotations

from typing import TYPE_CHECKING

import click

from llmtop.commands.base import LlmtopCommand

if TYPE_CHECKING:
    from engine.models.registry import KnownModel


@click.command(
    "models",
    cls=LlmtopCommand,
    examples=(
        "llmtop models",
        "llmtop models --json",
        "llmtop serve ./folder          # a folder, a .gguf file or an id of the hub will do too",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def command(as_json: bool) -> None:
    """List the models that can be served by name.

    `llmtop serve` also takes a folder in Hugging Face layout, a .gguf file and an id of the hub.
    """
    from llmtop.commands.extras import require_engine

    require_engine()
    import msgspec

    from engine.models.registry import DEFAULT_MODEL, ModelRegistry
    from llmtop.paths import cache_dir

    known = ModelRegistry(cache_dir()).list()
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(known), indent=2))
        return
    width = max(len(model.name) for model in known)
    for model in known:
        default = ", the default" if model.name == DEFAULT_MODEL else ""
        click.echo(f"{model.name:<{width}}  {_state(model):<22}  {model.source}{default}")


def _state(model: KnownModel) -> str:
    from llmtop.format import size

    if model.size_bytes == 0:
        return "nothing to fetch"
    return "here" if model.is_cached else f"fetched once, {size(model.size_bytes)}"
