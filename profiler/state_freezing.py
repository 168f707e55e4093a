"""A state as the frame that keeps it, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiler.events import SCHEMA_VERSION
from profiler.objectives import told_objectives
from profiler.state_frame import StateFrame

if TYPE_CHECKING:
    from profiler.state import SessionState


def frame_of(state: SessionState) -> StateFrame:
    return StateFrame(
        SCHEMA_VERSION,
        state.seq,
        state.t_ns,
        state.session,
        state.phases.spans,
        state.requests.freeze(),
        state.steps.freeze(),
        state.pages.freeze(),
        state.gpus.freeze(),
        state.latency.freeze(),
        state.throughput.freeze(),
        state.totals,
        state.seconds.freeze(),
        state.memory.last,
        list(state.log.lines),
        state.log.counts,
        state.processes,
        state.recording,
        state.drops,
        state.findings.freeze(),
        state.roofline.freeze(),
        state.kernels,
        state.held.spans,
        state.clients.told,
        list(state.foreign.samples),
        state.observing.last,
        state.fleet.freeze(),
        state.blocks.freeze(),
    )


def fill(state: SessionState, frame: StateFrame) -> None:
    """Makes a new state what it was."""
    state.clock.t_ns = frame.t_ns
    state.seq = frame.seq
    state.session = frame.session
    state.phases.spans = frame.phases
    state.requests.thaw(frame.requests)
    state.steps.thaw(frame.steps)
    state.pages.thaw(frame.pages)
    state.gpus.thaw(frame.gpus)
    state.latency.thaw(frame.latency)
    state.throughput.thaw(frame.throughput)
    state.throughput.tells_steps = not state.upstream
    state.totals = frame.totals
    state.seconds.thaw(frame.seconds)
    state.memory.last = frame.memory
    state.log.lines.extend(frame.log_lines)
    state.log.counts = frame.log_counts
    state.processes = frame.processes
    state.recording = frame.recording
    state.drops = frame.drops
    state.findings.thaw(frame.findings)
    state.roofline.thaw(frame.roofline)
    state.kernels = frame.kernels
    state.held.spans = frame.held
    state.clients.told = frame.clients
    state.foreign.samples.extend(frame.foreign)
    state.observing.last = frame.observer
    state.fleet.thaw(frame.fleet)
    state.blocks.thaw(frame.blocks)
    state.objectives = () if frame.session is None else told_objectives(frame.session)
