"""The language of the project: what happened, one frozen type per kind of event.

Every event starts with `t_ns`, nanoseconds of the monotonic clock of the host that runs the engine;
all processes of one host share that clock. The engine emits one `Step` per engine step and never
one event per token: a token's time is the end of the step that made it. What is seen of another
server's requests is in `foreign_events`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from profiler.block_events import BlockDelta as BlockDelta
from profiler.block_events import BlockMapBegin as BlockMapBegin
from profiler.block_events import BlockRun as BlockRun
from profiler.device_events import MAX_CAPTURED_STEPS as MAX_CAPTURED_STEPS
from profiler.device_events import GpuAbsent as GpuAbsent
from profiler.device_events import GpuSample as GpuSample
from profiler.device_events import KernelRow as KernelRow
from profiler.device_events import KernelWindow as KernelWindow
from profiler.device_events import MemorySample as MemorySample
from profiler.device_events import ProcessSample as ProcessSample
from profiler.event import Event as Event
from profiler.foreign_events import RequestAnswered as RequestAnswered
from profiler.foreign_events import RequestForwarded as RequestForwarded
from profiler.foreign_events import TokenArrival as TokenArrival
from profiler.foreign_events import TokensReceived as TokensReceived
from profiler.metrics_events import Buckets as Buckets
from profiler.metrics_events import MetricsSample as MetricsSample
from profiler.metrics_events import TargetState as TargetState
from profiler.observer_events import LIMIT_NS as LIMIT_NS
from profiler.observer_events import MAX_TURN_NS as MAX_TURN_NS
from profiler.observer_events import NUM_TURNS as NUM_TURNS
from profiler.observer_events import SETTLE_NS as SETTLE_NS
from profiler.observer_events import TURN_NS as TURN_NS
from profiler.observer_events import TURN_STEPS as TURN_STEPS
from profiler.observer_events import ObserverCost as ObserverCost
from profiler.observer_events import ObserverTurn as ObserverTurn
from profiler.page_events import KvPacking as KvPacking
from profiler.page_events import LayerFormat as LayerFormat
from profiler.page_events import PageDelta as PageDelta
from profiler.page_events import PageForm as PageForm
from profiler.page_events import PageKeyframe as PageKeyframe
from profiler.page_events import PageRun as PageRun
from profiler.page_events import PageSpan as PageSpan

SCHEMA_VERSION: Final = 1


class ModelShape(msgspec.Struct, frozen=True, gc=False):
    """What a step's work is counted from.

    `layer_weights` are the elements of all layers' matrices. Of these `tail_weights`, the last
    layer's beyond its attention, and beside them `head_weights` work only for tokens that are
    sampled. `pair_flops` are the operations of one token that looks at another, in all layers.
    """

    num_parameters: int
    layer_weights: int
    tail_weights: int
    head_weights: int
    hidden_size: int
    pair_flops: int


class SessionStart(Event, frozen=True, gc=False):
    """The facts that hold for the whole session. `wall_ns` is the Unix time at `t_ns`.

    `read_bytes_per_s` and `matmul_flops_per_s` are what the device was measured to do at most, None
    where nobody measured it; so is `shape` where the engine does not tell. `upstream` is the
    address of another server, seen through a proxy: then `device` is "" and numbers are 0 that it
    does not tell. With `packing` full pages are packed, and `page_bytes` is what one takes then.
    `max_num_seqs` is what pages leave of the setting of that name.
    """

    wall_ns: int
    tool_version: str
    model: str
    device: str
    num_layers: int
    num_pages: int
    block_size: int
    page_bytes: int
    weights_bytes: int
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    config: dict[str, str | int | float | bool | None] = msgspec.field(default_factory=dict)
    read_bytes_per_s: float | None = None
    matmul_flops_per_s: float | None = None
    shape: ModelShape | None = None
    upstream: str = ""
    packing: KvPacking | None = None

    @property
    def kv_bytes(self) -> int:
        """The whole KV cache, wide pages included."""
        packing = self.packing
        wide_bytes = packing.num_wide_pages * packing.wide_page_bytes if packing else 0
        return self.num_pages * self.page_bytes + wide_bytes


class Phase(Event, frozen=True, gc=False):
    """Start-up and shutdown: `name` is fetch, convert, measure, load, warmup, ready, drain or
    stopped; and silent, from when the core gives no sign of life until it is ready again.

    `done` of `total` in `unit` ("bytes", "tensors", ...); `total` 0 means the end is not known.
    """

    name: str
    done: int = 0
    total: int = 0
    unit: str = ""


class RequestQueued(Event, frozen=True, gc=False):
    """`request` numbers the requests of a session from 1; `name` is the id the client sees. None is
    what another server's client did not ask for, and what only the answer will tell."""

    request: int
    name: str
    num_prompt_tokens: int | None
    max_tokens: int | None
    priority: int = 0
    sampling: str = ""


class RequestRejected(Event, frozen=True, gc=False):
    """A request that never got a number: the queue was full (`reason` "queue_full")."""

    reason: str
    num_prompt_tokens: int


class RequestScheduled(Event, frozen=True, gc=False):
    """The first prefill step of a request begins, or the first one after a preemption.

    `cached_tokens` of its context came out of the prefix cache and are not computed again.
    """

    request: int
    cached_tokens: int
    resumed: bool = False


class RequestFirstToken(Event, frozen=True, gc=False):
    request: int


class RequestPreempted(Event, frozen=True, gc=False):
    """The request lost its pages, and with them `lost_tokens` that were computed: to be computed
    again, but for those that the prefix cache still has when it is scheduled again."""

    request: int
    reason: str
    lost_tokens: int


class RequestFinished(Event, frozen=True, gc=False):
    """`reason` is "stop" or "length". `t_ns` is the end of the step that made the last token."""

    request: int
    reason: str
    num_output_tokens: int


class RequestAborted(Event, frozen=True, gc=False):
    """Ended without an answer: `reason` is "disconnect", "shutdown" or "error: ..."."""

    request: int
    reason: str
    num_output_tokens: int


class ClientBehind(Event, frozen=True, gc=False):
    """The client of a request takes nothing of what is sent to it: told once a second meanwhile.

    `since_ns` is when the write that waits was begun; `num_tokens` more of its tokens wait.
    """

    request: int
    since_ns: int
    num_tokens: int


class StepRow(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One request's share of a step: prompt tokens computed, tokens put out (0 or more)."""

    request: int
    prefill_tokens: int
    new_tokens: int


class Step(Event, frozen=True, gc=False):
    """One engine step, from `t_ns` (planning began) to `end_ns` (its tokens are known).

    A step that was launched while the one before was under way begins where that one ends.
    `host_ns` is the part of its time in which the host worked (on this step or on the next) instead
    of waiting; `device_ns` the time the device computed, `device_gap_ns` the time it rested between
    the step before and this one, None after a time without work; both None where they are not
    measured. Pages: `used` are referenced by a request,
    `cached` hold a reusable prefix nobody references, `free` hold nothing; they sum to all pages.
    Waiting and running count requests after the step. `graph` is "hit", "miss" or "" (no graphs).
    `waits_for` is what kept the first request of the queue out of this step: "seats" (all of
    max_num_seqs are taken), "tokens" (the step's token budget is spent), "pages" or "prefix" (one
    that runs computes the same prompt, to be shared); "" if nobody waited, and in recordings older
    than the field.

    The work: `computed_tokens` went through the layers, `sampled_rows` of them through the head.
    `context_tokens` sums the rows' contexts, new tokens included, and `attended_pairs` the context
    of each new token; a layer with a window counts what it sees, and both are means over layers.
    0 in recordings older than the fields, and of steps that failed.

    Where pages are packed, `pages_wide` have a wide page after the step, `packed_pages` are those
    that it packed, and `wide_context_tokens` the part of `context_tokens` that lies in wide pages.

    `processor_wait_ns` is the longest that a thread of the engine was ready to run in the step and
    had no processor; None on a GPU, in steps within 5 ms of the time before, and where the system
    does not tell.
    """

    end_ns: int
    step: int
    host_ns: int
    device_ns: int | None
    rows: tuple[StepRow, ...]
    num_waiting: int
    num_running: int
    pages_used: int
    pages_cached: int
    pages_free: int
    graph: str = ""
    waits_for: str = ""
    computed_tokens: int = 0
    sampled_rows: int = 0
    context_tokens: int = 0
    attended_pairs: int = 0
    device_gap_ns: int | None = None
    pages_wide: int = 0
    packed_pages: int = 0
    wide_context_tokens: int = 0
    processor_wait_ns: int | None = None


# Some 250 kernels a step, half a KiB each in the profiler's memory: 64 MiB.


class Recording(Event, frozen=True, gc=False):
    """The session file, once a second: its size with its log. `error` says why recording ended and
    is "" while it goes on."""

    file_bytes: int
    error: str = ""


class Log(Event, frozen=True, gc=False):
    """`level` is debug, info, warning or error; `source` the part that speaks."""

    level: str
    source: str
    text: str


class Finding(Event, frozen=True, gc=False):
    """A cause that was named. `status` is "open" when it began to show and "closed" when it had
    ended; both events carry the same number, from 1 in a session, and the closed one tells the
    worst moment. It held from `since_ns` on.

    `level` is info, warning, or alert for an objective that is missed. `evidence` holds the numbers
    of `text`, and `sql` asks the session's file for one row with the same names. `request` and
    `step` are where to look, 0 for nowhere.
    """

    finding: int
    rule: str
    level: str
    status: str
    since_ns: int
    text: str
    request: int = 0
    step: int = 0
    evidence: dict[str, int | float] = msgspec.field(default_factory=dict)
    sql: str = ""


class Dropped(Event, frozen=True, gc=False):
    """`count` events from sequence number `first_seq` on were lost to this reader."""

    first_seq: int
    count: int


AnyEvent = (
    SessionStart
    | Phase
    | RequestQueued
    | RequestRejected
    | RequestScheduled
    | RequestFirstToken
    | RequestPreempted
    | RequestFinished
    | RequestAborted
    | Step
    | PageDelta
    | PageKeyframe
    | GpuSample
    | GpuAbsent
    | ProcessSample
    | MemorySample
    | Recording
    | Log
    | Finding
    | KernelWindow
    | ClientBehind
    | MetricsSample
    | TargetState
    | RequestForwarded
    | TokensReceived
    | RequestAnswered
    | ObserverCost
    | BlockMapBegin
    | BlockDelta
    | Dropped
)

EVENT_TYPES: Final[tuple[type[Event], ...]] = AnyEvent.__args__
EVENT_BY_KIND: Final[dict[str, type[Event]]] = {
    str(t.__struct_config__.tag): t for t in EVENT_TYPES
}

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def kind_of(event: Event) -> str:
    return str(event.__struct_config__.tag)


def encode_event(event: Event) -> bytes:
    """One JSON object, with the kind under "kind"."""
    return _encoder.encode(event)


def decode_event(data: bytes | str) -> AnyEvent:
    """The event in one JSON object. Raises: msgspec.ValidationError, msgspec.DecodeError."""
    return _decoder.decode(data)


def encode_events(events: Iterable[Event]) -> bytes:
    """A line of JSON each, as `encode_event` writes it."""
    return _encoder.encode_lines(events)


def decode_events(lines: bytes) -> list[AnyEvent]:
    """The events in whole lines. Raises: msgspec.ValidationError, msgspec.DecodeError."""
    return _decoder.decode_lines(lines)
