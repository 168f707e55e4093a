"""A planted cause is named, with numbers that the file proves, and is not named without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from profiler.events import AnyEvent, ClientBehind, Finding
from profiler.findings.watch import derive

S = 1_000_000_000
Prove = Callable[[list[AnyEvent]], list[Finding]]


def rules(findings: list[Finding], status: str = "open") -> list[str]:
    return [finding.rule for finding in findings if finding.status == status]


def test_a_steady_session_has_no_findings(workload: Any) -> None:
    calm = workload(3, concurrency=24, prompt_tokens=(16, 64), step_ns=20_000_000)
    events = list(calm.events(3000))
    assert derive(enumerate(events, 1)) == []


def test_a_long_prompt_that_stalls_others_is_named(scene: Any, proved: Prove) -> None:
    session = scene()
    for _ in range(4):
        session.arrive()
    session.decode(5)
    long = session.arrive(prompt=4096)
    for _ in range(4):
        session.step(150, prefill={long: 1024})
    session.decode(20)
    opened, closed = proved(session.events)
    assert (opened.rule, opened.request, opened.status) == ("prefill_stall", long, "open")
    assert opened.evidence == pytest.approx(
        {"steps": 4, "prefill_tokens": 4096, "mean_ms": 150, "plain_ms": 12}
    )
    assert "prefill of r5 made 4 wait" in opened.text
    assert closed.status == "closed" and closed.finding == opened.finding
    assert closed.t_ns - closed.since_ns > 10e9, "it rests before it closes"


def test_the_prompts_of_others_in_the_same_steps_are_not_called_its_own(scene: Any) -> None:
    session = scene()
    session.arrive()
    session.decode(5)
    long, short, third = (session.arrive(prompt=400) for _ in range(3))
    session.step(400, prefill={long: 400, short: 90})
    session.step(300, prefill={short: 310})
    session.step(300, prefill={third: 400})
    opened = derive(enumerate([*session.events], 1))[-1]
    assert opened.request == long and opened.evidence["prefill_tokens"] == 490
    assert "490 prompt tokens of it and 1 other in 1 step of 400 ms" in opened.text


def test_prompts_of_an_idle_server_stall_nobody(scene: Any, proved: Prove) -> None:
    session = scene()
    for _ in range(40):
        number = session.arrive(prompt=4096)
        session.step(400, prefill={number: 4096})
        session.decode(0.2)
        session.finish(number)
    assert proved(session.events) == []


def test_steps_that_are_late_without_a_prompt_too_are_not_its_doing(
    scene: Any, proved: Prove
) -> None:
    session = scene()
    numbers = [session.arrive() for _ in range(4)]
    for i in range(400):
        session.step(120 if i % 5 == 0 else 12, prefill={numbers[0]: 16} if i % 20 == 0 else {})
    assert proved(session.events) == []


def test_pages_that_run_out_are_foretold_with_the_victim(scene: Any, proved: Prove) -> None:
    session = scene()
    numbers = [session.arrive(max_tokens=4000) for _ in range(5)]
    session.grow(480, cached=100)
    for _ in range(10):
        session.grow(20)
        session.decode(1)
    (opened,) = proved(session.events)
    assert opened.rule == "kv_full_soon" and opened.request == numbers[-1]
    assert opened.evidence["pages_per_s"] == pytest.approx(20, rel=0.1)
    assert "next: evict 100 cached pages, then preempt r5" in opened.text


def test_growth_that_must_end_is_no_forecast(scene: Any, proved: Prove) -> None:
    """The same growth of requests that cannot need all pages."""
    session = scene()
    for _ in range(5):
        session.arrive(max_tokens=1000)
    session.grow(480, cached=100)
    for _ in range(10):
        session.grow(20)
        session.decode(1)
    assert proved(session.events) == []


def test_a_preemption_storm(scene: Any, proved: Prove) -> None:
    session = scene()
    numbers = [session.arrive() for _ in range(4)]
    session.grow(1000)
    session.decode(12)
    for _ in range(6):
        session.preempt(numbers[-1])
        session.decode(0.5)
        session.resume(numbers[-1])
        session.decode(0.5)
    session.decode(25)
    findings = proved(session.events)
    assert rules(findings) == rules(findings, "closed") == ["preemption_storm"]
    assert findings[-1].evidence["preemptions"] == 6 and "r4" in findings[-1].text


def test_one_preemption_is_no_storm(scene: Any, proved: Prove) -> None:
    session = scene()
    numbers = [session.arrive() for _ in range(4)]
    session.decode(12)
    session.preempt(numbers[-1])
    session.decode(12)
    assert proved(session.events) == []


def test_a_prefix_cache_that_turns_over(scene: Any, proved: Prove) -> None:
    session = scene()
    session.arrive()

    def prompts(seconds: int, cached: int, evicted: int) -> None:
        for _ in range(seconds):
            number = session.arrive(prompt=100, start=False)
            session.start(number, cached)
            if evicted:
                session.evict(evicted)
            session.step(40, prefill={number: 100 - cached})
            session.first_tokens(number)
            session.decode(1)
            session.finish(number)

    prompts(30, cached=80, evicted=0)
    prompts(30, cached=5, evicted=60)
    findings = proved(session.events)
    assert rules(findings) == ["prefix_thrash"]
    assert findings[0].evidence["hit_pct_before"] == pytest.approx(80, abs=3)


def test_evictions_that_cost_no_hits_are_no_thrash(scene: Any, proved: Prove) -> None:
    session = scene()
    for _ in range(60):
        number = session.arrive(prompt=100, start=False)
        session.start(number, 80)
        session.evict(60)
        session.step(40, prefill={number: 20})
        session.decode(1)
        session.finish(number)
    assert proved(session.events) == []


def test_a_queue_that_grows(scene: Any, proved: Prove) -> None:
    session = scene()
    session.arrive()
    for _ in range(16):
        session.arrive(start=False)
        session.arrive(start=False)
        session.decode(1)
    findings = proved(session.events)
    assert rules(findings) == ["queue_growth"]
    assert "2.0 requests/s come, 0.0 end" in findings[0].text


def test_a_closed_loop_that_fills_up_is_no_growth(scene: Any, proved: Prove) -> None:
    session = scene()
    session.arrive()
    session.decode(8)
    for num_waiting in (3, 2, 1):
        for _ in range(num_waiting):
            session.arrive(start=False)
        session.decode(2)
    session.decode(12)
    assert proved(session.events) == []


def test_a_burst_that_waits_its_turn_is_no_growth(scene: Any, proved: Prove) -> None:
    session = scene()
    session.arrive()
    session.decode(8)
    for _ in range(50):
        session.arrive(start=False)
    session.decode(20)
    assert proved(session.events) == []


@pytest.mark.parametrize(
    ("measured", "device_ms", "expected"),
    [(True, 2.0, ["host_bound"]), (True, 9.0, []), (False, 2.0, [])],
)
def test_host_bound_only_where_device_time_is_measured(
    scene: Any, proved: Prove, measured: bool, device_ms: float, expected: list[str]
) -> None:
    session = scene(measured=measured)
    session.arrive()
    for _ in range(1000):
        session.step(10, device_ms=device_ms)
    assert rules(proved(session.events)) == expected


@pytest.mark.parametrize(
    ("ceilings", "ms", "expected"),
    [
        ((1e12, 1e15), 1.3, ["memory_bound"]),
        ((1e13, 1e12), 1.3, ["compute_bound"]),
        ((1e12, 1e15), 2.0, []),
        (None, 1.3, []),
    ],
)
def test_a_device_at_its_ceiling_is_named_with_which(
    scene: Any, proved: Prove, ceilings: Any, ms: float, expected: list[str]
) -> None:
    """The least time for a step is 1.07 ms: 2^30 bytes, or twice 2^29 FLOPs."""
    session = scene(ceilings=ceilings)
    session.arrive()
    for _ in range(int(12_000 / ms)):
        session.step(ms)
    findings = proved(session.events)
    assert rules(findings) == expected
    assert all("takes 83 % of the time" in f.text for f in findings if f.status == "open")


def test_clocks_are_throttled_with_the_reason(scene: Any, proved: Prove) -> None:
    session = scene()
    for throttle, mhz in (("", 1980), ("thermal, application clocks", 1400), ("", 1980)):
        for _ in range(50):
            session.gpu(mhz, throttle)
            session.t_ns += 200_000_000
    findings = proved(session.events)
    assert rules(findings) == rules(findings, "closed") == ["clock_throttle"]
    assert "GPU 0 is throttled (thermal): 1,400 MHz over 3 s, 1,980 MHz at best" in findings[0].text


@pytest.mark.parametrize("throttle", ["", "application clocks"])
def test_a_clock_that_was_chosen_is_no_throttling(scene: Any, proved: Prove, throttle: str) -> None:
    session = scene()
    for mhz in [1980] * 50 + [1400] * 50:
        session.gpu(mhz, throttle)
        session.t_ns += 200_000_000
    assert proved(session.events) == []


def test_a_client_that_takes_nothing_is_named_for_as_long_as_it_does(
    scene: Any, proved: Prove
) -> None:
    session = scene()
    slow, other = session.arrive(), session.arrive()
    session.decode(3)
    since_ns = session.t_ns
    for second in range(1, 5):
        session.decode(1)
        session.events.append(ClientBehind(session.t_ns, slow, since_ns, 80 * second))
    session.decode(12)
    opened, closed = proved(session.events)
    assert (opened.rule, opened.request) == ("slow_client", slow)
    assert "tokens wait for it" in opened.text and opened.request != other
    assert closed.status == "closed" and closed.evidence["tokens"] == 320
    assert closed.evidence["waited_s"] == pytest.approx(4, abs=0.2)


def test_a_client_that_read_on_in_time_is_not_named(scene: Any, proved: Prove) -> None:
    session = scene()
    session.events.append(ClientBehind(session.t_ns, session.arrive(), session.t_ns - S, 9))
    session.decode(0.4)
    session.decode(12)
    assert proved(session.events) == []
