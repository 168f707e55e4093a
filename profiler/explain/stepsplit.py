"""Splits one engine step into parts, as one of its requests sees it or as a whole."""

from __future__ import annotations

from profiler.events import Step, StepRow
from profiler.explain.clocks import Clocks
from profiler.explain.parts import Part, shared
from profiler.explain.usual import UsualSteps, compute_ns, num_decoding
from profiler.folds.held import Held


class StepSplitter:
    """Measures a step against like steps: `usual` of the newest ones and the GPU's `clocks`.

    host     what is left of the step beside its computation
    capture  the part of that in which the engine stood still for the kernel profiler
    own      a decode-only step's computation; if it is beyond the fence of like steps (see
             `Usual`), their median, and the excess is the clock's, the processor's that a thread
             waited for, the missing graph's or unexplained
    prefill  a step's computation less the median of decode-only steps of like batch, by tokens;
             what is beyond the fence of like prefill is the clock's, the processor's or
             unexplained. Where no like decode-only step is known each token of the step counts the
             same
    """

    def __init__(self, usual: UsualSteps, clocks: Clocks, held: Held) -> None:
        self._usual = usual
        self._clocks = clocks
        self._held = held

    def split(self, step: Step, begin_ns: int, request: int = 0, again: bool = False) -> list[Part]:
        """The parts of the step from `begin_ns` on. `request` is whose view it is, 0 for none's;
        `again`: it has been preempted before."""
        length_ns = step.end_ns - begin_ns
        device_ns = min(compute_ns(step), length_ns)
        host = self._beside(begin_ns, step.end_ns, length_ns - device_ns)
        prefills = [row for row in step.rows if row.prefill_tokens]
        mine = next((row for row in prefills if row.request == request), None)
        word = "own" if request and mine is None else "decode"
        if not prefills:
            return [*self._decoding(step, device_ns, word), *host]
        decode_ns = self._decode_ns(step, device_ns, prefills)
        parts = [Part(word, decode_ns, estimated=True)]
        rest = self._beyond_prefill(step, device_ns, device_ns - decode_ns, prefills)
        prefill_ns = device_ns - decode_ns - sum(part.ns for part in rest)
        shares = shared(prefill_ns, [row.prefill_tokens for row in prefills])
        own = "recompute" if again else "chunk"
        measured = decode_ns == 0 and len(prefills) == 1
        for row, share_ns in zip(prefills, shares, strict=True):
            cause, whose = (own, 0) if row is mine else ("prefill", row.request)
            parts.append(Part(cause, share_ns, whose, row.prefill_tokens, "", not measured))
        return [*parts, *rest, *host]

    def _beside(self, begin_ns: int, end_ns: int, host_ns: int) -> list[Part]:
        """What the device did not compute: it rests while the engine stands still."""
        held_ns = min(host_ns, self._held.ns_within(begin_ns, end_ns))
        return [Part("capture", held_ns), Part("host", host_ns - held_ns)]

    def _decoding(self, step: Step, device_ns: int, word: str) -> list[Part]:
        usual = self._usual.decode(len(step.rows), step.step)
        if usual is None or usual.within(device_ns):
            return [Part(word, device_ns)]
        own_ns = min(device_ns, round(usual.middle))
        *known, rest = self._slow(step, device_ns, device_ns - own_ns)
        if step.graph == "miss":
            rest = Part("graph", rest.ns, estimated=True)
        return [Part(word, own_ns, estimated=True), *known, rest]

    def _decode_ns(self, step: Step, device_ns: int, prefills: list[StepRow]) -> int:
        batch = num_decoding(step)
        usual = self._usual.decode(batch, step.step)
        if usual is not None:
            return min(device_ns, round(usual.middle))
        tokens = sum(row.prefill_tokens for row in prefills)
        return device_ns * batch // (batch + tokens)

    def _beyond_prefill(
        self, step: Step, device_ns: int, rest_ns: int, prefills: list[StepRow]
    ) -> list[Part]:
        """What of `rest_ns` its prefill does not account for."""
        tokens = sum(row.prefill_tokens for row in prefills)
        usual = self._usual.prefill(tokens, step.step)
        if usual is None or usual.fence is None:
            return [self._clock(step, rest_ns, rest_ns)]
        if usual.within(rest_ns / tokens):
            return []
        return self._slow(step, device_ns, max(0, rest_ns - round(usual.middle * tokens)))

    def _slow(self, step: Step, device_ns: int, excess_ns: int) -> list[Part]:
        """What a computation took beyond like ones, by what is known to have slowed it."""
        clock = self._clock(step, device_ns, excess_ns)
        waited_ns = min(excess_ns - clock.ns, step.processor_wait_ns or 0)
        rest_ns = excess_ns - clock.ns - waited_ns
        return [
            clock,
            Part("processor", waited_ns, estimated=True),
            Part("unexplained", rest_ns, detail="slow", estimated=True),
        ]

    def _clock(self, step: Step, device_ns: int, most_ns: int) -> Part:
        share, reason = self._clocks.slowdown(step.end_ns)
        return Part("clock", min(most_ns, round(share * device_ns)), detail=reason, estimated=True)
