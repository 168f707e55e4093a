"""Every cause that a schedule has is found in it, and the parts sum to what was measured."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profiler.bus import Bus
from profiler.events import Dropped, KernelWindow
from profiler.explain.explainer import Explainer
from profiler.explain.parts import Explanation, Part
from profiler.explain.sentence import sentence
from profiler.folds.steps import Steps, StepsFrame
from profiler.follower import Follower
from profiler.session.reader import SessionReader
from profiler.session.tape import Tape
from profiler.state import SessionState

MS = 1_000_000


def explained(state: SessionState, request: int, at: int = -1) -> Explanation:
    """Of the token at `at`, the newest by default, after the sums were checked."""
    view = state.requests.get(request)
    assert view is not None
    explanation = Explainer(state).token(view, at % len(view.token_steps))
    assert explanation is not None
    hold_the_sums(explanation)
    return explanation


def hold_the_sums(explanation: Explanation) -> None:
    parts = explanation.parts
    assert all(part.ns > 0 for part in parts)
    assert sum(part.ns for part in parts) == explanation.total_ns
    assert sum(part.ns for step in explanation.steps for part in step.parts) == sum(
        part.ns for part in parts
    )


def by_cause(explanation: Explanation) -> dict[str, float]:
    """ms by cause."""
    sums: dict[str, float] = {}
    for part in explanation.parts:
        sums[part.cause] = sums.get(part.cause, 0.0) + part.ns / MS
    return sums


def words(explanation: Explanation, subject: str = "token 5") -> str:
    return sentence(subject, explanation, lambda number: f"r-{number}")


def test_an_even_token_is_its_own_share(schedule: Any) -> None:
    schedule.start(1, 2, 3)
    schedule.decode(1, 2, 3, steps=20)
    explanation = explained(schedule.state, 1)
    assert by_cause(explanation) == pytest.approx({"own": 10, "host": 1, "idle": 0.1})
    assert not any(part.estimated for part in explanation.parts)
    assert words(explanation) == "token 5 11.1 ms = own 10.0 + host 1.0 + gap between steps 0.1"


def test_a_capture_is_named_in_the_gap_and_in_the_step(schedule: Any) -> None:
    """Started for 3 ms before the step, and read for 40 ms while the step's tokens waited."""
    schedule.start(1, 2)
    schedule.decode(1, 2, steps=20)
    schedule.rest(5)
    begin_ns = schedule.now_ns - 1 * MS
    schedule.step((1, 0, 1), (2, 0, 1), ms=10, host=42, device=True)
    told_ns = schedule.now_ns - MS // 2
    schedule.tell(KernelWindow(told_ns, begin_ns, 43 * MS, 22, 1, "cuda", (), start_cost_ns=3 * MS))
    explanation = explained(schedule.state, 1)
    assert by_cause(explanation) == pytest.approx(
        {"own": 10, "host": 2, "capture": 43, "idle": 2.1}
    )
    assert "kernel capture 43.0" in words(explanation)
    parts = Explainer(schedule.state).step(schedule.state.steps.last)
    assert sum(part.ns for part in parts if part.cause == "capture") == 43 * MS
    later = SessionState.restore(schedule.state.keyframe())
    assert explained(later, 1) == explanation


def test_a_prefill_in_the_step_is_named_with_its_tokens(schedule: Any) -> None:
    schedule.start(1, 2)
    schedule.decode(1, 2, steps=20)
    schedule.queue(9)
    schedule.step((1, 0, 1), (2, 0, 1), (9, 1024, 1), ms=41, scheduled=(9,))
    explanation = explained(schedule.state, 1)
    assert explanation.largest == Part("prefill", 31 * MS, 9, 1024, estimated=True)
    assert words(explanation) == (
        "token 5 42.1 ms = own ~10.0 + prefill of r-9 ~31.0 (1,024 tokens) + host 1.0"
        " + gap between steps 0.1"
    )


def test_several_prefills_share_by_tokens(schedule: Any) -> None:
    schedule.start(1)
    schedule.decode(1, steps=20)
    schedule.queue(8, 9)
    schedule.step((1, 0, 1), (8, 300, 1), (9, 100, 1), ms=50, scheduled=(8, 9))
    parts = [p for p in explained(schedule.state, 1).parts if p.cause == "prefill"]
    assert [(p.request, p.ns / MS, p.tokens) for p in parts] == [(8, 30, 300), (9, 10, 100)]


def test_without_a_like_step_every_token_counts_the_same(schedule: Any) -> None:
    schedule.start(1)
    schedule.queue(9)
    schedule.step((1, 0, 1), (9, 99, 1), ms=50, scheduled=(9,))
    assert by_cause(explained(schedule.state, 1))["own"] == pytest.approx(0.5)


def test_more_time_than_prefill_of_that_size_takes_is_not_laid_on_it(schedule: Any) -> None:
    schedule.start(1)
    for new in range(10, 30):
        schedule.decode(1)
        schedule.queue(new)
        schedule.step((1, 0, 1), (new, 100, 0), ms=20, scheduled=(new,))
    schedule.queue(9)
    schedule.step((1, 0, 1), (9, 100, 1), ms=320, scheduled=(9,))
    assert by_cause(explained(schedule.state, 1)) == pytest.approx(
        {"own": 10, "prefill": 10, "unexplained": 300, "host": 1, "idle": 0.1}
    )


def test_a_stall_of_the_host(schedule: Any) -> None:
    schedule.start(1)
    schedule.decode(1, steps=20)
    schedule.step((1, 0, 1), ms=10, host=80)
    assert explained(schedule.state, 1).largest == Part("host", 80 * MS)


def test_host_time_behind_the_device_is_no_part(schedule: Any) -> None:
    """Launching took 8 ms, and meanwhile the device computed: it alone was waited for."""
    schedule.start(1)
    step = schedule.step((1, 0, 1), ms=10, host=2, device=True)
    assert step.device_ns == 10 * MS
    assert by_cause(explained(schedule.state, 1)) == pytest.approx(
        {"own": 10, "host": 2, "idle": 0.1}
    )


def test_a_gap_between_steps(schedule: Any) -> None:
    schedule.start(1)
    schedule.decode(1, steps=20)
    schedule.rest(60)
    schedule.decode(1)
    explanation = explained(schedule.state, 1)
    assert explanation.largest == Part("idle", round(60.1 * MS))
    assert "gap between steps 60.1" in words(explanation)


def test_a_missing_graph(schedule: Any) -> None:
    schedule.start(1)
    schedule.decode(1, steps=20, graph="hit")
    schedule.decode(1, ms=35, graph="miss")
    assert by_cause(explained(schedule.state, 1)) == pytest.approx(
        {"own": 10, "graph": 25, "host": 1, "idle": 0.1}
    )


def test_a_clock_drop_and_its_reason(schedule: Any) -> None:
    schedule.start(1)
    for _ in range(20):
        schedule.gpu(2000)
        schedule.decode(1)
    schedule.gpu(500, "thermal")
    schedule.decode(1, ms=40)
    explanation = explained(schedule.state, 1)
    assert by_cause(explanation) == pytest.approx({"own": 10, "clock": 30, "host": 1, "idle": 0.1})
    assert "clock drop (thermal) ~30.0" in words(explanation)


def test_a_low_clock_is_no_cause_of_a_step_that_took_no_longer(schedule: Any) -> None:
    schedule.start(1)
    for _ in range(20):
        schedule.gpu(2000)
        schedule.decode(1)
    schedule.gpu(1000, "power cap")
    schedule.decode(1)
    assert "clock" not in by_cause(explained(schedule.state, 1))


def test_what_has_no_cause_is_shown_as_unexplained(schedule: Any) -> None:
    schedule.start(1)
    schedule.decode(1, steps=20)
    schedule.decode(1, ms=50)
    explanation = explained(schedule.state, 1)
    assert explanation.largest.cause == "unexplained"
    assert explanation.unexplained_ns == 40 * MS
    assert "unexplained (slower than like steps) ~40.0" in words(explanation)


def test_a_thread_without_a_processor_is_the_cause_as_far_as_it_waited(schedule: Any) -> None:
    schedule.start(1)
    schedule.decode(1, steps=20)
    schedule.decode(1, ms=50, processor_wait=35)
    explanation = explained(schedule.state, 1)
    assert by_cause(explanation) == pytest.approx(
        {"own": 10, "processor": 35, "unexplained": 5, "host": 1, "idle": 0.1}
    )
    assert "waiting for a processor ~35.0" in words(explanation)


def test_waiting_that_made_no_step_longer_is_no_cause(schedule: Any) -> None:
    schedule.start(1)
    schedule.decode(1, steps=20)
    schedule.decode(1, processor_wait=8)
    assert "processor" not in by_cause(explained(schedule.state, 1))


def test_a_prefill_that_waited_for_a_processor(schedule: Any) -> None:
    schedule.start(1)
    schedule.decode(1, steps=20)
    for request in range(2, 8):
        schedule.queue(request)
        schedule.step((1, 0, 1), (request, 100, 1), ms=20, scheduled=(request,))
    schedule.queue(9)
    schedule.step((1, 0, 1), (9, 100, 1), ms=90, scheduled=(9,), processor_wait=60)
    causes = by_cause(explained(schedule.state, 1))
    assert causes["processor"] == pytest.approx(60)
    assert causes["unexplained"] == pytest.approx(10)


def test_preemption_and_recompute(schedule: Any) -> None:
    schedule.start(1, 2)
    schedule.decode(1, 2, steps=20)
    schedule.decode(1, steps=5)
    before = schedule.now_ns
    schedule.step((1, 0, 1), ms=10, preempted=(2,), waits_for="pages")
    for _ in range(6):
        schedule.step((1, 0, 1), ms=10, waits_for="pages")
    waited = schedule.now_ns - before
    schedule.step((1, 0, 1), (2, 120, 1), ms=25, scheduled=(2,))
    explanation = explained(schedule.state, 2)
    sums = by_cause(explanation)
    assert explanation.largest.cause == "preempted"
    assert explanation.largest.detail == "pages"
    assert sums["preempted"] + sums["idle"] > waited / MS
    assert sums["recompute"] == pytest.approx(15)
    assert sums["decode"] == pytest.approx(10)
    assert "preempted, waiting for pages" in words(explanation)
    assert "own recompute ~15.0 (120 tokens)" in words(explanation)


def test_the_time_to_the_first_token(schedule: Any) -> None:
    """Queued behind a step under way, for seats, for tokens, then prefilled in two chunks."""
    schedule.start(1)
    schedule.decode(1, steps=20)
    schedule.queue(2)
    arrival = schedule.now_ns
    schedule.step((1, 0, 1), ms=10, waits_for="seats")
    schedule.step((1, 0, 1), ms=10, waits_for="pages")
    schedule.step((1, 0, 1), (2, 60, 0), ms=40, scheduled=(2,))
    schedule.step((1, 0, 1), ms=10)
    schedule.step((1, 0, 1), (2, 40, 1), ms=30)
    explanation = explained(schedule.state, 2, 0)
    assert explanation.begin_ns == arrival
    waits = {p.detail: p.ns / MS for p in explanation.parts if p.cause == "waits"}
    assert waits == pytest.approx({"seats": 11, "pages": 11, "tokens": 11})
    sums = by_cause(explanation)
    assert (sums["chunk"], sums["decode"]) == pytest.approx((50, 20))
    chunks = [p for step in explanation.steps for p in step.parts if p.cause == "chunk"]
    assert [(p.tokens, p.ns) for p in chunks] == [(60, 30 * MS), (40, 20 * MS)]


@pytest.mark.parametrize("waits_for", ["", "seats"])
def test_who_comes_while_a_step_is_under_way_waits_for_its_end(
    schedule: Any, waits_for: str
) -> None:
    """Whatever those lacked who were there when it was planned."""
    schedule.start(1)
    schedule.decode(1, steps=9)
    schedule.rest(0.1)
    begin = schedule.now_ns
    schedule.now_ns += 4 * MS
    schedule.queue(2)
    schedule.now_ns = begin - round(0.1 * MS)
    schedule.step((1, 0, 1), ms=10, waits_for=waits_for)
    schedule.step((2, 100, 1), ms=30, scheduled=(2,))
    waits = [p for p in explained(schedule.state, 2, 0).parts if p.cause == "waits"]
    assert [(p.detail, p.ns) for p in waits] == [("step", 7 * MS)]


def test_a_recording_without_reasons_says_that_the_request_waited(schedule: Any) -> None:
    schedule.start(1)
    schedule.queue(2)
    step = schedule.step((1, 0, 1), ms=10, waits_for="seats")
    schedule.step((2, 100, 1), ms=30, scheduled=(2,))
    ring = schedule.state.steps.ring
    at = ring.index(step)
    ring[at] = msgspec.structs.replace(step, waits_for="")
    (wait,) = [p for p in explained(schedule.state, 2, 0).parts if p.cause == "waits"]
    assert (wait.detail, wait.ns) == ("", 11 * MS)


def test_lost_steps_are_told_and_their_waiting_is_known_all_the_same(schedule: Any) -> None:
    schedule.start(1, 2)
    schedule.decode(1, 2, steps=3)
    schedule.step((1, 0, 1), ms=10, preempted=(2,), waits_for="pages")
    hidden = SessionState()
    for event in schedule.events:
        hidden.apply(event)
    resumed = schedule.number
    schedule.decode(1, steps=6)
    hidden.apply(Dropped(schedule.now_ns, 1, 6))
    seen = len(schedule.events)
    schedule.step((1, 0, 1), (2, 120, 1), ms=25, scheduled=(2,))
    for event in schedule.events[seen:]:
        hidden.apply(event)
    sums = by_cause(explained(hidden, 2))
    assert sums["preempted"] > 60
    assert "unexplained" not in sums
    assert by_cause(explained(hidden, 1))["unexplained"] > 60
    assert hidden.steps.find(resumed + 1) is None


def test_slow_tokens_are_explained_when_their_steps_have_left_the_ring(schedule: Any) -> None:
    """Of 600 steps the ordinary ones are forgotten; prefill, a stall and a pause are not."""
    schedule.start(1)
    schedule.decode(1, steps=10)
    schedule.queue(9)
    schedule.step((1, 0, 1), (9, 1024, 0), ms=41, scheduled=(9,))
    schedule.decode(1, steps=10)
    schedule.step((1, 0, 1), ms=10, host=50)
    schedule.decode(1, steps=10)
    schedule.rest(70)
    schedule.decode(1, steps=600)
    causes = {at: explained(schedule.state, 1, at) for at in (5, 11, 22, 33)}
    (part,) = causes.pop(5).parts
    assert (part.cause, part.detail) == ("unexplained", "lost")
    largest = {at: explanation.largest.cause for at, explanation in causes.items()}
    assert largest == {11: "prefill", 22: "host", 33: "idle"}
    assert by_cause(explained(schedule.state, 1, 0)) == pytest.approx(
        {"chunk": 20, "host": 1, "idle": 0.1}
    )
    thawed = SessionState.restore(schedule.state.keyframe())
    assert explained(thawed, 1, 11) == causes[11]
    assert thawed.keyframe() == schedule.state.keyframe()


def test_a_keyframe_from_before_the_kept_steps_goes_on_all_the_same(schedule: Any) -> None:
    schedule.start(1)
    schedule.decode(1, steps=10)
    kept, old = schedule.state.steps, Steps()
    old.thaw(StepsFrame(list(kept.ring), kept.num_steps))
    assert old.prefill_tokens == kept.prefill_tokens
    assert old.num_prefills == kept.num_prefills
    for steps in (kept, old):
        for number in range(3):
            last = steps.last
            assert last is not None
            begin_ns = last.end_ns + MS
            late_ns = 90 * MS if number == 2 else 10 * MS
            steps.step(
                msgspec.structs.replace(
                    last, t_ns=begin_ns, end_ns=begin_ns + late_ns, step=last.step + 1
                ),
                0,
                0,
            )
    assert [step.step for step in old.notable] == [kept.ring[-1].step]
    assert old.notable[-1] == kept.notable[-1]


def test_steps_that_are_late_stay_late_after_a_pause(schedule: Any) -> None:
    """A pause of a minute does not make what is twice as slow look usual."""
    schedule.start(1)
    schedule.decode(1, steps=40)
    schedule.rest(60_000)
    schedule.decode(1)
    schedule.decode(1, ms=40)
    late = schedule.number
    schedule.decode(1, steps=5)
    notable = [step.step for step in schedule.state.steps.notable]
    assert notable == [1, late - 1, late]


def test_a_request_without_a_token_has_no_explanation(schedule: Any) -> None:
    schedule.queue(1)
    view = schedule.state.requests.live[1]
    assert Explainer(schedule.state).first_token(view) is None


CAUSES = ("even", "prefill", "host", "idle", "preempted", "unexplained")


def delay(schedule: Any, cause: str, ms: float, new: int) -> None:
    """A token of request 1 that comes `ms` late for that cause; `new` is a request not yet used."""
    if cause == "prefill":
        schedule.queue(new)
        schedule.step((1, 0, 1), (2, 0, 1), (new, 1024, 0), ms=10 + ms, scheduled=(new,))
    elif cause == "host":
        schedule.step((1, 0, 1), (2, 0, 1), ms=10, host=ms)
    elif cause == "idle":
        schedule.rest(ms)
        schedule.decode(1, 2)
    elif cause == "preempted":
        schedule.step((2, 0, 1), ms=ms / 2, preempted=(1,), waits_for="pages")
        schedule.step((2, 0, 1), ms=ms / 2, waits_for="pages")
        schedule.step((2, 0, 1), (1, 50, 1), ms=15, scheduled=(1,))
    else:
        schedule.decode(1, 2, ms=10 + ms * (cause == "unexplained"))


@settings(max_examples=60, deadline=None)
@given(
    causes=st.lists(st.sampled_from(CAUSES), min_size=1, max_size=25),
    late_ms=st.floats(60, 500),
    seed=st.integers(0, 2**16),
)
def test_any_mixture(new_schedule: Any, causes: list[str], late_ms: float, seed: int) -> None:
    """Whatever comes after whatever: the cause is the largest part, and parts sum to the gap."""
    schedule, random = new_schedule(), Random(seed)
    schedule.start(1, 2)
    for number, cause in enumerate(["even", *causes], 10):
        for _ in range(8):
            schedule.decode(1, 2, ms=random.uniform(9.8, 10.2))
        delay(schedule, cause, late_ms, number)
        explanation = explained(schedule.state, 1)
        assert explanation.largest.cause == ("own" if cause == "even" else cause)
        if cause not in ("even", "preempted"):
            assert by_cause(explanation)[cause] == pytest.approx(late_ms, rel=0.02)
        if cause != "unexplained":
            assert explanation.unexplained_ns <= 0.02 * explanation.total_ns


def test_a_replayed_session_explains_as_the_live_one_did(workload: Any, tmp_path: Path) -> None:
    """Every token that a viewer may choose, at several moments of a run with preemptions."""
    made = workload(3, concurrency=8, num_pages=180, step_ns=40_000_000, chunk=256)
    bus = Bus()
    tape = Tape(tmp_path / "run.db", bus, Follower(bus))
    live = SessionState()
    told: list[tuple[int, list[Any]]] = []
    for seq, event in enumerate(made.events(400), 1):
        bus.publish(event)
        live.apply(event, seq)
        if seq % 300 == 0:
            tape.flush()
            told.append((seq, all_explanations(live)))
    tape.finish()
    reader = SessionReader(tmp_path / "run.db")
    replayed = SessionState()
    for seq, event in reader.events():
        replayed.apply(event, seq)
        if told and seq == told[0][0]:
            assert all_explanations(replayed) == told.pop(0)[1]
    assert live.requests.num_preemptions > 3 and not told
    final = reader.state_at(reader.end_ns)
    assert all_explanations(final) == all_explanations(live)
    reader.close()


def all_explanations(state: SessionState) -> list[Explanation | None]:
    explainer = Explainer(state)
    found = [
        explainer.token(view, at)
        for view in (*state.requests.live.values(), *state.requests.done)
        for at in range(0, len(view.token_steps), 7)
    ]
    for explanation in found:
        if explanation is not None:
            hold_the_sums(explanation)
    assert len(found) > 20
    return found
