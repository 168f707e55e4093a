from __future__ import annotations

import click

from llmtop.commands.base import LlmtopCommand


@click.command(
    "keys",
    cls=LlmtopCommand,
    examples=(
        "llmtop keys",
        "llmtop keys --path                        # the file that is read",
        "llmtop keys --write                       # begin a file of your own",
    ),
)
@click.option("--path", "only_path", is_flag=True, help="Print only where keys.toml is looked for.")
@click.option("--write", is_flag=True, help="Write them there, where no keys.toml is yet.")
def command(only_path: bool, write: bool) -> None:
    """Print every key as TOML, ready to edit.

    Lines of it, put into keys.toml in the config folder, give actions other keys; the footer and
    the help follow. What the file leaves out stays as it is.
    """
    from llmtop.commands.exclusion import exclude
    from llmtop.keyfile import NAME, begin_keys, keys_toml, load_keymap
    from llmtop.paths import config_dir

    exclude({"--path": only_path, "--write": write})
    path = config_dir() / NAME
    if only_path:
        click.echo(path)
    elif write:
        begin_keys(path)
        click.echo(f"wrote {path}")
    else:
        click.echo(keys_toml(load_keymap()), nl=False)
