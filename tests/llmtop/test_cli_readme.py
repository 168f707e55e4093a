"""What README and the commands' own help show can be typed as it stands."""

import shlex
from pathlib import Path

import click
import pytest

from llmtop.cli import COMMANDS, EXAMPLES, cli

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def command_named(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


def examples_of_help() -> list[str]:
    """The lines under "Examples:", continued lines joined."""
    text = "\n".join(
        example for name in COMMANDS for example in getattr(command_named(name), "examples", ())
    )
    return text.replace("\\\n", " ").splitlines()


LINES = [line for line in README.splitlines() if line.startswith("llmtop ")]
ALL = [*LINES, *EXAMPLES, *(x for x in examples_of_help() if x.startswith("llmtop "))]


@pytest.mark.parametrize("line", ALL)
def test_an_example_is_understood_as_it_stands(line: str) -> None:
    words = shlex.split(line.partition("|")[0].partition(" > ")[0], comments=True)
    name, arguments = words[1], words[2:]
    assert command_named(name).make_context(name, arguments).params is not None


def test_there_are_five_examples() -> None:
    assert len(LINES) == 5


def test_the_table_names_every_command_once() -> None:
    rows = [line for line in README.splitlines() if line.startswith("| `llmtop ")]
    assert [row.split()[2].rstrip("`") for row in rows] == list(COMMANDS)


def test_the_two_commands_set_up_all_that_they_need() -> None:
    """A virtual environment first: elsewhere pip may refuse to install."""
    begin = "python3 -m venv .venv && . .venv/bin/activate && pip install -e"
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert commands == [
        f"{begin} '.[engine]' && llmtop serve",
        f"{begin} '.[engine,dev]' && pytest",
    ]
    first_screen = README.splitlines()[:40]
    assert set(commands) <= set(first_screen)


@pytest.mark.parametrize(
    "file",
    [
        "docs/numbers.md",
        "docs/server.md",
        "docs/structure.md",
        "docs/findings.md",
        "docs/export.md",
        "benchmarks/NOTES.md",
    ],
)
def test_what_readme_links_to_is_there(file: str) -> None:
    assert f"]({file})" in README
    assert (Path(__file__).resolve().parents[2] / file).is_file()
