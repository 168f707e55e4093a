from __future__ import annotations

import click

from llmtop.commands.base import LlmtopCommand


@click.command(
    "keys",
    cls=LlmtopCommand,
    examples=(
        "llmtop keys",
        "llmtop keys --path                        # the file that is read",
        'llmtop keys > "$(llmtop keys --path)"     # begin a file of your own',
    ),
)
@click.option("--path", "only_path", is_flag=True, help="Print only where keys.toml is looked for.")
def command(only_path: bool) -> None:
    """Print every key as TOML, ready to edit.

    Lines of it, put into keys.toml in the config folder, give actions other keys; the footer and
    the help follow. What the file leaves out stays as it is.
    """
    from llmtop.keyfile import NAME, keys_toml, load_keymap
    from llmtop.paths import config_dir

    if only_path:
        click.echo(config_dir() / NAME)
    else:
        click.echo(keys_toml(load_keymap()), nl=False)
