"""While it is on, nothing that leaves the terminal says who asked what, or where."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest

from llmtop.app import LlmtopApp
from llmtop.keys import PAGES
from llmtop.once import as_json, look_once
from llmtop.plain import run_plain
from llmtop.privacy import HIDDEN, Privacy
from llmtop.screens.prompt import PromptScreen
from llmtop.viewfile import FORMS, save_view
from llmtop.viewing import Viewing
from llmtop.viewmodel import Connection
from llmtop.widgets.conversation import Exchange
from profiler.events import AnyEvent, Finding, Log, MetricsSample, RequestQueued, SessionStart
from profiler.findings.words import name_of
from profiler.state import SessionState

S = 1_000_000_000

MASKED = Viewing(privacy=True)
SECRETS = ("alice", "gpu-box", "10.0.0.7", "/srv", "acme")
ADDRESS = "http://gpu-box.acme.example:8400"
TextOf = Callable[[Any], str]
Until = Callable[[Any, Callable[[], bool]], Awaitable[None]]


def told_by_clients(events: list[AnyEvent]) -> Iterator[AnyEvent]:
    """The same events of a server whose clients and folders have names."""
    for event in events:
        if isinstance(event, RequestQueued):
            event = msgspec.structs.replace(event, name=f"chatcmpl-alice-{event.request:04d}")
        if isinstance(event, SessionStart):
            event = msgspec.structs.replace(event, model="/srv/acme/smollm2-135m-instruct")
        yield event


@pytest.fixture
def source(events: Callable[..., list[AnyEvent]], source_of: Callable[[Any], Any]) -> Any:
    state = SessionState()
    for seq, event in enumerate(told_by_clients(events(6.0)), 1):
        state.apply(event, seq)
    t_ns = state.t_ns
    newest = next(reversed(state.requests.live))
    for text in (
        "10.0.0.7:51234 asked for alice-0001 and was cut off",
        f"no weights in '/srv/my acme/model' at {ADDRESS}/v1",
        "gpu-box.acme.example does not answer",
    ):
        state.apply(Log(t_ns, "warning", "server", text), state.seq + 1)
    named = f"prefill of {name_of(state, newest)} made 3 wait: 512 prompt tokens in 1 step"
    forgotten = "KV full in 14 s at +128 pages/s; next: preempt alice-000"
    for number, text in enumerate((named, forgotten), 1):
        finding = Finding(t_ns, number, "rule", "warning", "open", t_ns, text, newest)
        state.apply(finding, state.seq + 1)
    found = source_of(state)
    found.address = ADDRESS
    return found


def leaks(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_no_screen_tells_a_name_a_host_or_a_folder(
    source: Any, text_of: TextOf, size: tuple[int, int]
) -> None:
    app = LlmtopApp(source, viewing=MASKED)
    async with app.run_test(size=size) as pilot:
        for key, _, _ in PAGES:
            await pilot.press(key)
            await pilot.pause()
            text = text_of(app)
            assert not leaks(text), text
            assert " PRIVATE " in text
        await pilot.press("2", "j", "enter")
        await pilot.pause()
        assert not leaks(text_of(app))
        assert "Request #" in text_of(app)


async def test_the_key_masks_and_unmasks_at_once(source: Any, text_of: TextOf) -> None:
    app = LlmtopApp(source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("2")
        await pilot.pause()
        assert "alice" in text_of(app)
        await pilot.press("P")
        await pilot.pause()
        assert not leaks(text_of(app))
        await pilot.press("P")
        await pilot.pause()
        assert "alice" in text_of(app)
        assert "PRIVATE" not in text_of(app)


async def test_a_sheet_that_is_open_is_masked_too(source: Any, text_of: TextOf) -> None:
    app = LlmtopApp(source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("2", "j", "enter")
        await pilot.pause()
        await pilot.press("tab", "question_mark")
        await pilot.pause()
        assert "alice" in text_of(app)
        app.action_privacy()  # as the palette does over a sheet
        await pilot.pause()
        assert not leaks(text_of(app))


async def test_numbers_states_and_selection_stay(source: Any) -> None:
    app = LlmtopApp(source)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("2", "j")
        open_view = app._picture.take(0)
        await pilot.press("P")
        masked = app._picture.take(0)
        assert app.model.selected == open_view.request.request  # type: ignore[union-attr]
    before = [(r.request, r.phase, r.num_output_tokens) for r in app.model.table(open_view.state)]
    after = [(r.request, r.phase, r.num_output_tokens) for r in app.model.table(masked.state)]
    assert before == after
    assert masked.request is not None
    assert masked.request.name == f"#{masked.request.request}"


async def test_what_leaves_the_terminal_is_masked(source: Any, tmp_path: Any) -> None:
    app = LlmtopApp(source, viewing=MASKED)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("2", "j", "y")
        await pilot.pause()
        assert re.fullmatch(r"#\d+", app.clipboard)
        assert not leaks(app.export_screenshot(simplify=True))
        for _, page, _ in PAGES:
            app.model.page = page
            for form in FORMS:
                written = save_view(app._picture.take(0), form, tmp_path).read_text()
                assert not leaks(written)


async def test_what_is_said_for_a_moment_is_masked(
    source: Any, text_of: TextOf, until: Until
) -> None:
    app = LlmtopApp(source, viewing=MASKED)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        app.notify("saved /srv/acme/1.svg", markup=False)
        await until(pilot, lambda: f"saved {HIDDEN}" in text_of(app))
        app.model.toggle_privacy()
        app.notify("saved /srv/acme/2.svg", markup=False)
        await until(pilot, lambda: "/srv" in text_of(app))
        await pilot.press("P")
        await until(pilot, lambda: not leaks(text_of(app)))


async def test_question_and_answer_are_masked(source: Any, text_of: TextOf) -> None:
    app = LlmtopApp(source, "http://127.0.0.1:9", viewing=MASKED)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("p", *"alice")
        screen = app.screen
        assert isinstance(screen, PromptScreen)
        screen.exchanges.append(Exchange("alice asks", "for acme", "answered"))
        screen.on_resize()
        await pilot.pause()
        assert not leaks(text_of(app))
        assert "•••• •••" in text_of(app)
        app.model.toggle_privacy()
        await pilot.pause(0.3)
        assert "alice asks" in text_of(app)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("no weights in '/srv/my acme/x.gguf'", "no weights in •••"),
        ("at /usr/lib/x/serving.py:120", "at •••:120"),
        ("saved ~/llmtop/a.svg; 12 tok/s", "saved •••; 12 tok/s"),
        ("http://[::1]:8000/v1 refused", "••• refused"),
        ("fe80::1ff:fe23:4567 and ::1 and 2001:db8:0:0:1:0:0:1", "••• and ••• and •••"),
        ("ann@acme.example from gpu7:8400", "••• from •••"),
        ("12:04:22 31.0 ms, 1/64 steps, cuda:0, 1.5 GiB/s", None),
        ("evict 100 cached pages, then preempt r 5", "evict 100 cached pages, then preempt •••"),
        ("3 preemptions in 10 s with 1,024 of 2,048 pages used, a, b 3x so far",
         "3 preemptions in 10 s with 1,024 of 2,048 pages used, ••• 3x so far"),
    ],
)  # fmt: skip
def test_places_and_forgotten_names_are_hidden_in_a_text(text: str, masked: str | None) -> None:
    assert Privacy(on=True).text(text) == (masked or text)
    assert Privacy().text(text) == text


def test_an_address_keeps_its_port_and_a_file_nothing() -> None:
    privacy = Privacy(on=True)
    assert privacy.address("https://gpu-box:8400") == "https://•••:8400"
    assert privacy.address("alice.db") == HIDDEN


def test_a_mask_changes_nothing_of_the_state_itself(source: Any) -> None:
    state = source.poll(0)
    before = state.keyframe()
    masked = Privacy(on=True).state(state)
    assert state.keyframe() == before
    assert masked.pages is state.pages
    assert Privacy().state(state) is state


def test_a_request_that_ended_is_one_object_in_all_pictures(source: Any) -> None:
    privacy = Privacy(on=True)
    first, second = (privacy.state(source.poll(0)).requests.done for _ in range(2))
    assert len(first) > 2
    assert all(a is b for a, b in zip(first, second, strict=True))


def test_filters_that_may_hold_a_name_are_cleared(source: Any) -> None:
    model = LlmtopApp(source).model
    for text, left in (("id~alice", ""), ("ttft>200", "ttft>200")):
        model.set_filter(text)
        model.set_log_filter("alice")
        model.toggle_privacy()
        assert (model.filter_text, model.log_filter) == (left, "")
        model.toggle_privacy()


def test_plain_lines_and_snapshots_are_masked(
    source: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not leaks(as_json(look_once(source, private=True)))
    source.connection = Connection("ended", f"{ADDRESS} has stopped")
    assert run_plain(source, private=True) == 0
    said = capsys.readouterr().out
    assert "warning server" in said
    assert not leaks(said)


def test_a_foreign_server_s_model_loses_its_folders() -> None:
    state = SessionState()
    for second in (1, 2):
        told = MetricsSample(second * S, "vLLM", "/home/ada/models/secret", {}, {}, {})
        state.apply(told, second)
    masked = Privacy(True).state(state).foreign
    assert masked.last is not None and masked.last.model == "secret"
    assert len(masked.samples) == 2
    assert state.foreign.last is not None and "ada" in state.foreign.last.model
