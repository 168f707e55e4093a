"""When a program under test has done what a key asked for: Textual looks in steps of 20 ms, and
waited so for a quarter of these tests' time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from textual._context import active_app
from textual.pilot import Pilot

STEP_S = 0.002
BUSY_S = 0.0005  # of the processor in a step: the loop has nothing to do, but a thread has
PATIENCE = 5  # times as long, while others have the processor


def is_drawn(app: Any) -> bool:
    """Whether nothing waits for the next of 60 frames a second."""
    screen = app._screen_stack[-1] if app is not None and app._screen_stack else None
    return screen is None or not (
        screen._layout_required
        or screen._scroll_required
        or screen._repaint_required
        or screen._recompose_required
        or screen._dirty_widgets
        or screen._callbacks
    )


async def wait_for_idle(min_sleep: float = 0.0, max_sleep: float = 1.0) -> None:
    """Waits until the loop has run all that was ready, all is drawn, and no thread works.

    It gives up after `max_sleep` seconds of this process's own work, so that on a busy machine a
    test sees what it sees on any other.
    """
    loop: Any = asyncio.get_running_loop()
    app = active_app.get(None)
    began, cpu_began_s = loop.time(), time.process_time()
    while True:
        cpu_s = time.process_time()
        await asyncio.sleep(STEP_S)
        waited = loop.time() - began
        idle = not loop._ready and is_drawn(app) and time.process_time() - cpu_s < BUSY_S
        worked = time.process_time() - cpu_began_s
        if max(worked, waited / PATIENCE) >= max_sleep or (idle and waited >= min_sleep):
            return


async def wait_for_screen(pilot: Pilot[Any], timeout: float = 30.0) -> bool:
    """No message to each of 400 widgets: the loop has run all once their queues are empty."""
    await wait_for_idle(max_sleep=1.0)
    return pilot.app._exception is None


def look_often(patch: pytest.MonkeyPatch) -> None:
    for module in ("textual.app", "textual.pilot"):
        patch.setattr(f"{module}.wait_for_idle", wait_for_idle)
    patch.setattr(Pilot, "_wait_for_screen", wait_for_screen)
