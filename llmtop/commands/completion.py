from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from llmtop.commands.base import LlmtopCommand

SHELLS = ("bash", "zsh", "fish")


@click.command(
    "completion",
    cls=LlmtopCommand,
    examples=(
        'eval "$(llmtop completion bash)"                # in ~/.bashrc',
        'eval "$(llmtop completion zsh)"                 # in ~/.zshrc',
        "llmtop completion fish > ~/.config/fish/completions/llmtop.fish",
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    completion = get_completion_class(shell)
    assert completion is not None
    root = ctx.find_root().command
    click.echo(completion(root, {}, "llmtop", "_LLMTOP_COMPLETE").source())
