"""What serves on this host: the kernel's list of ports, and what answers at them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from llmtop.cli import main
from llmtop.commands import choosing
from llmtop.commands.choosing import chosen
from llmtop.errors import LlmtopError
from llmtop.sources.discovery import Found, discover
from llmtop.sources.listening import listening_urls

Start = Callable[[dict[str, Any]], Any]
PAGES = Path(__file__).parents[1] / "data" / "metrics"
VLLM, SGLANG = ((PAGES / f"{name}.prom").read_bytes() for name in ("vllm", "sglang_legacy"))
TEXT, JSON = "text/plain; version=0.0.4", "application/json"
V6_ONE, V6_ANY = "00000000000000000000000001000000", "0" * 32
V6_MAPPED = "0000000000000000FFFF00000100007F"


def table(*rows: tuple[str, int, str]) -> str:
    """As the kernel prints it: address, port, state."""
    lines = ["  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"]
    for number, (address, port, state) in enumerate(rows):
        lines.append(
            f"{number:4d}: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000"
        )
    return "\n".join(lines) + "\n"


def test_ports_that_listen_where_loopback_reaches_them(tmp_path: Path) -> None:
    (tmp_path / "tcp").write_text(
        table(
            ("0100007F", 8001, "0A"),
            ("00000000", 8000, "0A"),
            ("0200007F", 8002, "0A"),
            ("0100007F", 8003, "01"),
            ("0101A8C0", 8004, "0A"),
        )
        + "damage\n  9: zz:1F40 0:0 0A\n  9: 0100007F:zzzz 0:0 0A\n"
    )
    rows = ((V6_ONE, 8006, "0A"), (V6_ANY, 8000, "0A"), (V6_ANY, 8005, "0A"))
    (tmp_path / "tcp6").write_text(table(*rows, (V6_MAPPED, 8007, "0A")))
    assert listening_urls(tmp_path) == [
        "http://127.0.0.1:8000",
        "http://127.0.0.1:8001",
        "http://127.0.0.2:8002",
        "http://[::1]:8005",
        "http://[::1]:8006",
        "http://127.0.0.1:8007",
    ]


def test_a_system_that_does_not_tell_is_said_to(tmp_path: Path) -> None:
    with pytest.raises(LlmtopError, match="does not tell which ports listen") as caught:
        listening_urls(tmp_path)
    assert "llmtop attach http" in caught.value.hint


def test_this_host_s_own_list_has_a_port_that_listens_now() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert f"http://127.0.0.1:{port}" in listening_urls()
    assert f"http://127.0.0.1:{port}" not in listening_urls()


def test_servers_are_found_among_others_with_gets_alone_and_no_key(
    peer: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMTOP_API_KEY", "sesame")
    models = (200, JSON, b'{"data":[{"id":"qwen\\u001b[2J","owned_by":"vllm"}]}')
    vllm = peer({"/metrics": (200, TEXT, VLLM), "/v1/models": models})
    sglang = peer({"/metrics": (200, TEXT, SGLANG)})
    loaded = (200, JSON, b'{"models":[]}')
    ollama = peer({"/api/version": (200, JSON, b'{"version":"0.9"}'), "/api/ps": loaded})
    web = peer({"/": (200, "text/html", b"<html>")})
    all_of_them = (vllm, web, sglang, ollama)
    found = discover([one.url for one in all_of_them])
    assert found[0] == Found(vllm.url, "vLLM", "", "qwen")
    assert (found[1].url, found[1].engine, found[1].note) == (sglang.url, "SGLang", "")
    assert found[2] == Found(ollama.url, "Ollama", "0.9", "")
    assert len(found) == 3
    # The peers answer GET alone: any other method would have been a 501 and nothing in `asked`.
    assert all(key is None for one in all_of_them for _, key in one.asked)
    assert not any("completion" in path for one in all_of_them for path in one.paths)


def test_ports_that_never_answer_hold_nobody_up() -> None:
    """Twelve that accept and are silent, asked all at once: one waiting time and not twelve."""
    silent = [socket.create_server(("127.0.0.1", 0)) for _ in range(12)]
    began = time.monotonic()
    try:
        assert discover([f"http://127.0.0.1:{s.getsockname()[1]}" for s in silent]) == []
    finally:
        for one in silent:
            one.close()
    assert time.monotonic() - began < 8, "twelve would be 12 s"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1", [1]), ("1,3", [1, 3]), (" 2 1 2", [2, 1]), ("all", [1, 2, 3]), ("ALL", [1, 2, 3])],
)
def test_choices(text: str, numbers: list[int]) -> None:
    assert chosen(text, 3) == numbers


@pytest.mark.parametrize("text", ["", "0", "4", "x", "1,x", "-1", "1 all"])
def test_wrong_choices_are_asked_again(text: str) -> None:
    with pytest.raises(click.UsageError, match="write numbers from 1 to 3"):
        chosen(text, 3)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """This host's list of ports is the servers that a test names."""

    def put(*servers: Any) -> None:
        monkeypatch.setattr(choosing, "listening_urls", lambda: [one.url for one in servers])

    return put


def test_a_script_gets_the_list(peer: Start, here: Any, capsys: Any) -> None:
    one, two = peer({"/metrics": (200, TEXT, VLLM)}), peer({"/metrics": (200, TEXT, SGLANG)})
    here(one, two)
    assert main(["attach", "--once", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(f["url"], f["engine"]) for f in found] == [(one.url, "vLLM"), (two.url, "SGLang")]
    assert main(["attach", "--once"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["1", one.url, "vLLM"] and len(lines) == 2


def test_nothing_found_is_one_line_a_hint_and_1(here: Any, capsys: Any) -> None:
    here()
    assert main(["attach", "--once", "--json"]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out) == []
    assert told.err.splitlines() == [
        "error: no server that llmtop knows answers on this host's ports",
        "hint: name it: llmtop attach http://HOST:PORT; llmtop serve starts one here",
    ]
    assert main(["attach"]) == 1


def test_a_key_for_whoever_is_found_is_refused(here: Any) -> None:
    here()
    assert main(["attach", "--api-key-for", "127.0.0.1=LLMTOP_API_KEY"]) == 2


def test_where_nobody_can_be_asked_several_are_named(peer: Start, here: Any, capsys: Any) -> None:
    one, two = peer({"/metrics": (200, TEXT, VLLM)}), peer({"/metrics": (200, TEXT, SGLANG)})
    here(one, two)
    assert main(["attach"]) == 1
    assert f"2 servers answer: {one.url}, {two.url}" in capsys.readouterr().err


def test_the_only_one_is_watched_at_once(
    peer: Start, here: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("llmtop.commands.watching.watch", lambda *given: seen.append(given) or 0)
    monkeypatch.setenv("LLMTOP_API_KEY", "sesame")
    vllm = peer({"/metrics": (200, TEXT, VLLM), "/version": (200, JSON, b'{"version":"0.33"}')})
    here(vllm)
    assert main(["attach"]) == 0
    (source, url, key, *_) = seen[0]
    assert source.address == f"{vllm.url}/metrics" and (url, key) == (vllm.url, None)
    assert f"found vLLM 0.33 at {vllm.url}" in capsys.readouterr().err
    assert all(sent is None for _, sent in vllm.asked), "what was found was not given a key"
