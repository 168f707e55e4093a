"""A session's report as titled tables of text, for whatever lays them out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from profiler.events import SessionStart
from profiler.folds.quantiles import Quantiles
from profiler.report import (
    LATENCIES,
    NUM_SLOWEST,
    RECEIVED_LATENCIES,
    Device,
    EndedRequest,
    KvUse,
    SessionReport,
)

NONE: Final = "--"
MIB: Final = 1 << 20
_OF_QUANTILES: Final = ("n", "mean", "p50", "p90", "p95", "p99", "max")


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]+")


class Section(NamedTuple):
    """`columns` is empty for a list of facts, whose rows are (name, value). `note` says what the
    numbers are."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


def sections(report: SessionReport) -> Iterator[Section]:
    """Every table of the report, those left out that the session has nothing for."""
    yield _session(report)
    yield _machine(report)
    yield from _model(report)
    yield _workload(report)
    yield _latencies(report)
    yield from _throughput(report)
    yield from _kv(report)
    yield from _devices(report)
    yield from _slowest(report)
    yield from _warnings(report)


def headline(report: SessionReport) -> str:
    """The model and the file, in one line."""
    model = "" if report.start is None else report.start.model
    return f"{model or 'unknown model'}: {report.file}"


def one_line(text: str) -> str:
    """`text` without line breaks, control characters and marks that reorder a line."""
    return _CONTROL.sub(" ", text)


def number(value: float | None, digits: int = 0, unit: str = "") -> str:
    """`--` for what is not known; groups of three parted by a space."""
    if value is None:
        return NONE
    return f"{value:,.{digits}f}".replace(",", " ") + (f" {unit}" if unit else "")


def share(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.1f} %"


def _session(report: SessionReport) -> Section:
    began = datetime.fromtimestamp(report.wall_ns / 1e9, UTC)
    rows = [
        ("file", report.file),
        ("began", f"{began:%Y-%m-%d %H:%M:%S} UTC"),
        ("lasted", number(report.duration_s, 1, "s")),
        ("end", "closed" if report.clean_end else "not closed: killed, or still recording"),
        ("events lost", number(report.events_lost)),
    ]
    return Section("Session", (), rows)


def _machine(report: SessionReport) -> Section:
    start, facts = report.start, report.facts
    rows = [
        ("device", NONE if start is None else start.device or NONE),
        ("GPUs", ", ".join(device.name for device in report.devices) or "none seen"),
        ("CPU cores", facts.get("cpus", NONE)),
        ("system", facts.get("platform", NONE)),
        ("Python", facts.get("python", NONE)),
        ("llmtop", NONE if start is None else start.tool_version),
    ]
    return Section("Machine", (), rows)


def _foreign_model(start: SessionStart) -> Section:
    """What another server told through a proxy."""
    longest = number(start.max_model_len or None, 0, "tokens")
    rows = [
        ("name", start.model or NONE),
        ("seen through a proxy to", start.upstream),
        ("longest context", longest),
    ]
    return Section("Model", (), rows)


def _model(report: SessionReport) -> Iterator[Section]:
    start = report.start
    if start is None:
        return
    if start.upstream:
        yield _foreign_model(start)
        return
    yield Section(
        "Model",
        (),
        [
            ("name", start.model),
            ("layers", number(start.num_layers)),
            ("weights", number(start.weights_bytes / MIB, 1, "MiB")),
            ("longest context", number(start.max_model_len, 0, "tokens")),
            ("KV cache", number(start.kv_bytes / MIB, 1, "MiB")),
            ("requests a step", f"at most {number(start.max_num_seqs)}"),
            ("tokens a step", f"at most {number(start.max_num_batched_tokens)}"),
        ],
    )
    if start.config:
        config = [(name, NONE if v is None else str(v)) for name, v in start.config.items()]
        yield Section("Config", (), config)


def _workload(report: SessionReport) -> Section:
    work = report.work
    rows = [
        ("requests queued", number(work.queued)),
        *([("under way when it began", number(work.inherited))] if work.inherited else []),
        ("finished", number(work.finished)),
        ("failed or cancelled", number(work.failed)),
        ("rejected", number(work.rejected)),
        ("not ended with the session", number(work.unfinished)),
        ("prompt tokens", _spread(work.prompt_tokens)),
        ("output tokens", _spread(work.output_tokens)),
        ("prompt tokens out of the prefix cache", share(work.cached_share)),
        ("most running", number(work.max_running)),
        ("most waiting", number(work.max_waiting)),
    ]
    return Section("Workload", (), rows)


def _spread(found: Quantiles | None) -> str:
    if found is None:
        return NONE
    return f"mean {number(found.mean, 1)}, p50 {number(found.p50)}, max {number(found.max)}"


def _latencies(report: SessionReport) -> Section:
    defined = LATENCIES if report.tells_steps else RECEIVED_LATENCIES
    rows = [(defined[name][0], *_quantile_cells(report.latencies[name])) for name in defined]
    definitions = "; ".join(f"{title}: {meaning}" for title, meaning in defined.values())
    note = (
        f"ms, over the whole session. {definitions}. Exact values, interpolated linearly (ITL in "
        f"whole microseconds); p99 needs 100 values. Of {number(report.work.told)} requests that "
        "ended."
    )
    who = "engine sees" if report.tells_steps else "proxy saw"
    return Section(f"Latency, as the {who} it", ("ms", *_OF_QUANTILES), rows, note)


def _quantile_cells(found: Quantiles | None) -> tuple[str, ...]:
    if found is None:
        return ("0", *[NONE] * (len(_OF_QUANTILES) - 1))
    values = (found.mean, found.p50, found.p90, found.p95, found.p99, found.max)
    return (number(found.n), *(number(value, 2) for value in values))


def _throughput(report: SessionReport) -> Iterator[Section]:
    flow = report.flow
    if flow is None:
        return
    output, finished, tokens = (
        ("output", number(flow.output_tokens_per_s, 1, "tok/s")),
        ("requests finished", f"{flow.requests_per_s:.2f} /s"),
        ("output tokens", number(flow.new_tokens)),
    )
    if not report.tells_steps:
        note = (
            f"Of requests that ended, over {flow.span_s:.1f} s from the arrival of the first to "
            "the end of the last, idle time included."
        )
        yield Section("Throughput", (), [output, finished, tokens], note)
        return
    rows = [
        output,
        ("prompt, computed", number(flow.prefill_tokens_per_s, 1, "tok/s")),
        finished,
        tokens,
        ("prompt tokens computed", number(flow.prefill_tokens)),
        ("steps", number(flow.steps)),
        ("mean step", number(flow.mean_step_ms, 2, "ms")),
        ("a step under way", share(flow.busy_share)),
        ("the device computing", share(flow.device_share)),
        ("energy", number(report.joules_per_token, 3, "J per output token")),
    ]
    note = (
        f"Over {flow.span_s:.1f} s from the start of the first step to the end of the last, idle "
        "time included."
    )
    yield Section("Throughput", (), rows, note)


def _kv(report: SessionReport) -> Iterator[Section]:
    kv, work = report.kv, report.work
    if kv is None:
        return

    def of_all(pages: float) -> str:
        return f"{number(pages)} ({share(pages / kv.num_pages) if kv.num_pages else NONE})"

    rows = [
        ("pages", f"{number(kv.num_pages)} of {kv.block_size} tokens"),
        ("most used", of_all(kv.max_used)),
        ("used, mean while steps run", of_all(kv.mean_used)),
        ("most cached and unused", of_all(kv.max_cached)),
        *_packed(kv),
        ("preemptions", number(work.preemptions)),
        ("tokens lost by them", number(work.lost_tokens)),
        ("of those, found in the prefix cache", number(work.found_again_tokens)),
    ]
    yield Section("KV cache", (), rows)


def _packed(kv: KvUse) -> list[tuple[str, str]]:
    if kv.format is None:
        return []
    return [
        ("format of full pages", kv.format),
        ("pages packed", number(kv.packed_pages)),
        ("most wide pages", f"{number(kv.max_wide)} of {number(kv.num_wide_pages)}"),
    ]


def _devices(report: SessionReport) -> Iterator[Section]:
    if report.devices:
        columns = ("GPU", "samples", "most memory", "busy", "power", "hottest", "energy")
        note = "NVML's, over all samples: means of busy and power, the highest of the others."
        yield Section("Devices", columns, [_device(d) for d in report.devices], note)


def _device(device: Device) -> tuple[str, ...]:
    used, total = device.max_mem_used_bytes / MIB, device.mem_total_bytes / MIB
    return (
        f"{device.device} {device.name}",
        number(device.samples),
        f"{number(used)} of {number(total)} MiB",
        number(device.mean_util_pct, 1, "%"),
        number(device.mean_power_w, 0, "W"),
        number(device.max_temp_c, 0, "°C"),
        number(device.energy_j, 0, "J"),
    )


_REQUEST_COLUMNS: Final = (
    "request", "prompt", "cached", "output", "queue ms", "TTFT ms", "TPOT ms", "E2EL ms",
    "preempted", "end",
)  # fmt: skip


def _slowest(report: SessionReport) -> Iterator[Section]:
    for requests, name in ((report.slowest_first, "TTFT"), (report.slowest_end, "E2EL")):
        if requests:
            title = f"Slowest requests by {name}"
            note = f"The {NUM_SLOWEST} longest of those that ended."
            yield Section(
                title, _REQUEST_COLUMNS, [_request(r, report.tells_steps) for r in requests], note
            )


def _request(request: EndedRequest, tells_steps: bool) -> tuple[str, ...]:
    return (
        f"{request.request} {request.name}",
        number(request.num_prompt_tokens),
        number(request.cached_tokens),
        number(request.num_output_tokens),
        number(request.queue_ms, 2),
        number(request.ttft_ms, 2),
        number(request.tpot_ms, 2),
        number(request.e2el_ms, 2),
        number(request.preemptions if tells_steps else None),
        request.end,
    )


def _warnings(report: SessionReport) -> Iterator[Section]:
    if report.num_warnings:
        note = f"The first {len(report.warnings)} of {number(report.num_warnings)}."
        yield Section("Warnings and errors", ("line",), [(w,) for w in report.warnings], note)
