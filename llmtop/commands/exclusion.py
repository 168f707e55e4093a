"""Flags that have no meaning together."""

from __future__ import annotations

from collections.abc import Mapping

import click


def exclude(flags: Mapping[str, object]) -> None:
    """Lets one of `flags` pass, each by its name with what was given for it.

    Raises: click.UsageError for two.
    """
    given = [name for name, value in flags.items() if value]
    if len(given) > 1:
        raise click.UsageError(f"{given[0]} and {given[1]} exclude each other")
