from __future__ import annotations

import os
from pathlib import Path

from engine.server.process_meter import PAGE_BYTES, TICKS_PER_S, ProcessMeter

SECOND = 10**9


def write_stat(proc: Path, utime: int, stime: int, pages: int) -> None:
    fields = ["S"] + ["0"] * 30
    fields[11], fields[12], fields[21] = str(utime), str(stime), str(pages)
    (proc / "7").mkdir(exist_ok=True)
    (proc / "7" / "stat").write_text(f"7 (a (strange) name) {' '.join(fields)}\n")


def test_the_share_of_a_core_is_measured_between_two_samples(tmp_path):
    meter = ProcessMeter("core", 7, tmp_path)
    write_stat(tmp_path, 0, 0, 1)
    assert meter.sample(SECOND) is None
    write_stat(tmp_path, TICKS_PER_S, TICKS_PER_S // 2, 10)
    sample = meter.sample(2 * SECOND)
    assert sample is not None
    assert (sample.role, sample.pid, sample.cpu_pct) == ("core", 7, 150.0)
    assert sample.rss_bytes == 10 * PAGE_BYTES


def test_a_process_that_is_gone_gives_no_sample(tmp_path):
    meter = ProcessMeter("core", 7, tmp_path)
    assert meter.sample(SECOND) is None
    assert meter.sample(2 * SECOND) is None


def test_this_process_has_memory_and_used_less_than_every_core():
    meter = ProcessMeter("server", os.getpid())
    meter.sample(SECOND)
    sample = meter.sample(10**6 * SECOND)
    assert sample is not None
    assert sample.rss_bytes > 1 << 20
    assert 0 <= sample.cpu_pct < 100 * (os.cpu_count() or 1)
