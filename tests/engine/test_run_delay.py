"""The longest wait of a thread for a processor, from files like Linux's and from Linux's own."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from engine.run_delay import READ_EVERY_NS, RunDelay

T0 = 10**12


def say(threads: Path, **waited_ns: int) -> None:
    for name, ns in waited_ns.items():
        (threads / name).mkdir(exist_ok=True)
        (threads / name / "schedstat").write_text(f"123456 {ns} 78\n")


def test_the_longest_wait_of_any_thread_since_the_time_before(tmp_path: Path) -> None:
    delay = RunDelay(tmp_path)
    say(tmp_path, a=1000, b=9000)
    assert delay.longest_ns(T0) is None, "nothing to compare with"
    say(tmp_path, a=1700, b=9100, c=10**9)
    assert delay.longest_ns(T0 + READ_EVERY_NS) == 700, "a new thread waited before it was seen"
    say(tmp_path, a=1700, b=9100, c=10**9 + 5)
    assert delay.longest_ns(T0 + 2 * READ_EVERY_NS - 1) is None, "too soon"
    assert delay.longest_ns(T0 + 2 * READ_EVERY_NS) == 5
    (tmp_path / "c" / "schedstat").unlink()
    (tmp_path / "c").rmdir()
    (tmp_path / "b" / "schedstat").write_text("nothing\n")
    say(tmp_path, a=1710)
    assert delay.longest_ns(T0 + 3 * READ_EVERY_NS) == 10
    assert RunDelay(tmp_path / "nowhere").longest_ns(T0) is None
    delay.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux counts")
def test_linux_tells_of_this_process() -> None:
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("this kernel does not count")
    delay = RunDelay()
    ended = threading.Thread(target=lambda: None)
    ended.start()
    assert delay.longest_ns(T0) is None
    ended.join()
    waited_ns = delay.longest_ns(T0 + READ_EVERY_NS)
    assert waited_ns is not None and 0 <= waited_ns < 10**11
    delay.close()
