"""A key goes to the server that it is meant for."""

from __future__ import annotations

import click
import pytest

from llmtop.commands.credentials import key_for, with_keys

A, B, C = "http://a:8000", "https://b", "http://[::1]:8000"
ENVIRONMENT = {"KEY": "first", "OF_B": "second", "EMPTY": ""}


def keys(urls: list[str], *given: str) -> list[str | None]:
    context = click.Context(click.Command("attach"))
    names = key_for(context, click.Option(["--api-key-for"]), given)
    return [address.api_key for address in with_keys(urls, "KEY", names, ENVIRONMENT)]


def test_the_first_server_alone_has_the_key_that_names_nobody() -> None:
    assert keys([A]) == ["first"]
    assert keys([A, B, C]) == ["first", None, None]
    assert keys([B, A]) == ["first", None]
    assert keys([A, "http://a:8001", "https://a:8000"]) == ["first", None, None], "other servers"
    assert keys([A, "http://a:8000/other"]) == ["first", "first"], "the same server"


def test_a_key_that_names_a_host_goes_there() -> None:
    assert keys([A, B], "b=OF_B") == ["first", "second"]
    assert keys([A, B], "b:443=OF_B") == ["first", "second"]
    assert keys([A, B], "a=OF_B") == ["second", None]
    assert keys([A, "http://a:8001"], "a:8001=OF_B") == ["first", "second"]
    assert keys([A, "http://a:8001"], "a=KEY", "a:8001=OF_B") == ["first", "second"]
    assert keys([A, C], "[::1]:8000=OF_B") == ["first", "second"]
    assert keys([A, B], "B=OF_B") == ["first", "second"]


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("c=KEY", "no such server"),
        ("a:9=KEY", "no such server"),
        ("a=NOWHERE", "NOWHERE is not set"),
        ("a=EMPTY", "EMPTY is not set"),
        ("a", "is not HOST=NAME"),
        ("=KEY", "is not HOST=NAME"),
        ("a=", "is not HOST=NAME"),
    ],
)
def test_a_key_for_nobody_and_a_name_without_a_key_are_refused(given: str, what: str) -> None:
    with pytest.raises(click.UsageError, match=what):
        keys([A], given)
