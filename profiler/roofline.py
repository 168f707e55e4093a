"""The bytes and floating-point operations of a step, from shapes, and the least time they take.

Counted is what no implementation can leave out: every matrix that works read once, the embedding
rows, K and V of each row's context read and those of new tokens written; two operations a weight
and token, and attention. Where pages are packed, K and V are written wide and once more when their
page is packed, and are read as they lie. Left out are norms, biases, activations and sampling.
"""

from __future__ import annotations

from typing import NamedTuple

from profiler.events import SessionStart, Step

NS_PER_S = 1_000_000_000


class Work(NamedTuple):
    mem_bytes: float
    flops: float


def linear_work(session: SessionStart, step: Step) -> Work | None:
    """Of the products with weights. None where the session or the step does not tell enough: older
    recordings, failed steps."""
    shape = session.shape
    if shape is None or not step.computed_tokens:
        return None
    sampled_weights = shape.tail_weights + shape.head_weights
    weights = shape.layer_weights - shape.tail_weights
    read = weights + (sampled_weights if step.sampled_rows else 0)
    pairs = step.computed_tokens * weights + step.sampled_rows * sampled_weights
    return Work(read * session.weights_bytes / shape.num_parameters, 2 * pairs)


def attention_work(session: SessionStart, step: Step) -> Work | None:
    """Of looking at the contexts, whose K and V are read once. None as for `linear_work`."""
    shape = session.shape
    if shape is None or not step.computed_tokens:
        return None
    packed_tokens = step.context_tokens - step.wide_context_tokens
    read = packed_tokens * session.page_bytes / session.block_size
    read += step.wide_context_tokens * _written_bytes(session)
    return Work(read, shape.pair_flops * step.attended_pairs)


def _written_bytes(session: SessionStart) -> float:
    """K and V of one token in the page that it is written to."""
    packing = session.packing
    return (packing.wide_page_bytes if packing else session.page_bytes) / session.block_size


def work_of(session: SessionStart, step: Step) -> Work | None:
    """Of the whole step: both above, the embedding's rows, and K and V of the new tokens written.
    None as for `linear_work`."""
    shape = session.shape
    linear, attention = linear_work(session, step), attention_work(session, step)
    if shape is None or linear is None or attention is None:
        return None
    row_bytes = shape.hidden_size * session.weights_bytes / shape.num_parameters
    written = step.computed_tokens * (row_bytes + _written_bytes(session))
    written += step.packed_pages * session.page_bytes
    return Work(
        linear.mem_bytes + attention.mem_bytes + written,
        linear.flops + attention.flops,
    )


def busy_ns(step: Step) -> int:
    """What the device computed; on a CPU, what the host was kept by it."""
    if step.device_ns is not None:
        return step.device_ns
    return step.end_ns - step.t_ns - step.host_ns


def floor_ns(session: SessionStart, work: Work) -> float | None:
    """The least time for `work`, by the ceiling that is reached first; None if not measured."""
    read, matmul = session.read_bytes_per_s, session.matmul_flops_per_s
    if not read or not matmul:
        return None
    return max(work.mem_bytes / read, work.flops / matmul) * NS_PER_S


class Point(NamedTuple):
    """Where a step stands under the roof: FLOPs a byte, and FLOP/s while the device computed."""

    intensity: float
    flops_per_s: float


def point_of(session: SessionStart, step: Step) -> Point | None:
    """None where the work is not known or the device's time is not."""
    work, time_ns = work_of(session, step), busy_ns(step)
    if work is None or time_ns <= 0 or work.mem_bytes <= 0 or work.flops <= 0:
        return None
    return Point(work.flops / work.mem_bytes, work.flops * NS_PER_S / time_ns)
