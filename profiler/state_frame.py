"""A whole session state as data, the folds' own frames in one."""

from __future__ import annotations

import msgspec

from profiler.events import (
    ClientBehind,
    KernelWindow,
    Log,
    MemorySample,
    MetricsSample,
    ObserverCost,
    ProcessSample,
    Recording,
    SessionStart,
)
from profiler.folds.findings import FindingsFrame
from profiler.folds.fleet import ReplicaFrame
from profiler.folds.gpus import GpusFrame
from profiler.folds.hashedblocks import HashedBlocksFrame
from profiler.folds.latency import LatencyFrame
from profiler.folds.pages import PagesFrame
from profiler.folds.phases import PhaseSpan
from profiler.folds.requests import RequestsFrame
from profiler.folds.roofline import RooflineFrame
from profiler.folds.seconds import SecondsFrame
from profiler.folds.steps import StepsFrame
from profiler.folds.throughput import ThroughputFrame
from profiler.folds.totals import Totals


class StateFrame(msgspec.Struct, array_like=True):
    schema: int
    seq: int
    t_ns: int
    session: SessionStart | None
    phases: list[PhaseSpan]
    requests: RequestsFrame
    steps: StepsFrame
    pages: PagesFrame
    gpus: GpusFrame
    latency: LatencyFrame
    throughput: ThroughputFrame
    totals: Totals
    seconds: SecondsFrame
    memory: MemorySample | None
    log_lines: list[Log]
    log_counts: dict[str, int]
    processes: dict[str, ProcessSample]
    recording: Recording | None
    drops: int
    findings: FindingsFrame = msgspec.field(default_factory=FindingsFrame)
    roofline: RooflineFrame = msgspec.field(default_factory=RooflineFrame)
    kernels: KernelWindow | None = None
    held: list[tuple[int, int]] = []
    clients: list[ClientBehind] = []
    foreign: list[MetricsSample] = []
    observer: ObserverCost | None = None
    fleet: list[ReplicaFrame] = []
    blocks: HashedBlocksFrame = msgspec.field(default_factory=HashedBlocksFrame)
