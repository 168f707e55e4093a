"""What a stretch of a request's time was spent on, part by part."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

# In the order in which a person reads them: what it cost itself, what others cost it, what nobody
# computed for it, and what is not known.
CAUSES: Final = (
    "own",
    "chunk",
    "recompute",
    "prefill",
    "decode",
    "waits",
    "preempted",
    "graph",
    "clock",
    "processor",
    "host",
    "capture",
    "idle",
    "unexplained",
)
_ORDER: Final = {cause: at for at, cause in enumerate(CAUSES)}


class Part(NamedTuple):
    """`ns` of a stretch and their cause, one of

    own          the decoding batch in which the request got its token
    chunk        the request's own prompt being computed
    recompute    the same after a preemption, and the output so far: it had lost its pages
    prefill      the prompt of another request, `request`, in the same step
    decode       decoding in a step that computed the request's own prompt, or is nobody's view
    waits        a step without the request; `detail` is what it lacked: "seats", "tokens", "pages",
                 "prefix" (another computes the same prompt), "step" (it came while the step was
                 under way) or "" where that is not known
    preempted    a step without the request, since it had lost its pages
    graph        the step had no captured graph to replay
    clock        the GPU's clock was lower than usual; `detail` is the reason NVML gives
    processor    beyond like steps, as long as a thread that computed was ready and had no processor
    host         the part of a step in which the device computed nothing
    capture      the engine stood still for the kernel profiler, in a step or before it
    idle         between two steps
    unexplained  the rest; `detail` is "slow" for what a step took beyond steps like it, "lost" for
                 steps that are no longer known, "outside" for another server's

    `tokens` counts the prompt tokens that were computed, where some were. `estimated` parts are
    known by comparison with other steps or shared out by tokens; the others were measured.
    """

    cause: str
    ns: int
    request: int = 0
    tokens: int = 0
    detail: str = ""
    estimated: bool = False


class StepParts(NamedTuple):
    """The parts of one step, with the gap before it; `step` is None for a stretch without one."""

    step: int | None
    parts: tuple[Part, ...]


class Explanation(NamedTuple):
    """Where the time from `begin_ns` to `end_ns` went: `steps` one by one, `parts` altogether.

    Parts are never negative and sum to the whole stretch, to the nanosecond.
    """

    begin_ns: int
    end_ns: int
    steps: tuple[StepParts, ...]

    @property
    def total_ns(self) -> int:
        return self.end_ns - self.begin_ns

    @property
    def parts(self) -> list[Part]:
        """Like parts of all steps put together, in the order of `CAUSES`."""
        return merged(part for step in self.steps for part in step.parts)

    @property
    def unexplained_ns(self) -> int:
        return sum(part.ns for part in self.parts if part.cause == "unexplained")

    @property
    def largest(self) -> Part:
        """The longest part: the cause to name first. Raises: ValueError for an empty stretch."""
        return max(self.parts, key=lambda part: part.ns)


def merged(parts: Iterable[Part]) -> list[Part]:
    """Parts of one cause, request and detail as one; those of one cause by length."""
    sums: dict[tuple[str, int, str], Part] = {}
    for part in parts:
        key = (part.cause, part.request, part.detail)
        before = sums.get(key)
        sums[key] = part if before is None else _sum(before, part)
    kept = [part for part in sums.values() if part.ns > 0]
    return sorted(kept, key=lambda part: (_ORDER[part.cause], -part.ns, part.request))


def _sum(one: Part, other: Part) -> Part:
    return one._replace(
        ns=one.ns + other.ns,
        tokens=one.tokens + other.tokens,
        estimated=one.estimated or other.estimated,
    )


def shared(total_ns: int, weights: list[int]) -> list[int]:
    """`total_ns` in proportion to `weights`, in whole ns that sum to it."""
    whole, passed, given = max(1, sum(weights)), 0, 0
    shares = []
    for weight in weights:
        passed += weight
        upto = total_ns * passed // whole
        shares.append(upto - given)
        given = upto
    return shares
