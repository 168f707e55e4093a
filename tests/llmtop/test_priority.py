"""A viewer lowers itself, once and for all, and nobody else."""

import os
import threading

from llmtop.priority import NICENESS, give_way


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_thread_gives_way_and_takes_those_along_that_it_starts() -> None:
    found: list[int] = []

    def viewer() -> None:
        give_way()
        give_way()
        found.append(niceness())
        inner = threading.Thread(target=lambda: found.append(niceness()))
        inner.start()
        inner.join()

    before = niceness()
    thread = threading.Thread(target=viewer)
    thread.start()
    thread.join()
    assert found == [max(before, NICENESS)] * 2
    assert niceness() == before
