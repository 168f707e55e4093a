"""A session as one page that needs nothing else: its report, and plots over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final, NamedTuple

from profiler.folds.gpus import GpuSecond
from profiler.folds.seconds import SecondRow
from profiler.plots import Series, cumulative, plot, thinned
from profiler.report import SessionReport, gap_counts
from profiler.report_sections import Section, headline, one_line, sections
from profiler.session.reader import SessionReader

# Nothing may be loaded and nothing may run, whatever a recording from a stranger holds.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
:root { color-scheme: light dark; --bg: #fff; --text: #24292f; --dim: #667; --line: #d5dbe1;
  --s0: #0b6e99; --s1: #b35900; --s2: #6b4fbb; }
@media (prefers-color-scheme: dark) { :root { --bg: #11161d; --text: #c5cdd9; --dim: #8b97a8;
  --line: #2d3742; --s0: #58b8d8; --s1: #e0a458; --s2: #a78bda; } }
body { background: var(--bg); color: var(--text); font: 15px/1.5 system-ui, sans-serif;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { border-bottom: 1px solid var(--line); padding: .15rem .8rem .15rem 0; text-align: left; }
table.wide td + td, table.wide th + th { text-align: right; } th { font-weight: 600; }
p.note, figcaption { color: var(--dim); font-size: .85rem; margin: .3rem 0; max-width: 50rem; }
figure { margin: 1.2rem 0; } figure b { color: var(--text); } .scroll { overflow-x: auto; }
svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: var(--dim); }
svg text.y { text-anchor: end; } line.grid { stroke: var(--line); }
polyline { fill: none; stroke-width: 1.5; stroke-linejoin: round; }
.s0 { stroke: var(--s0); } .s1 { stroke: var(--s1); stroke-dasharray: 5 2; }
.s2 { stroke: var(--s2); stroke-dasharray: 2 2; }
circle.s0 { fill: var(--s0); } circle.s1 { fill: var(--s1); } circle.s2 { fill: var(--s2); }
i { font-style: normal; border-bottom: 3px solid; margin-right: .8rem; }
i.s0 { border-color: var(--s0); } i.s1 { border-color: var(--s1); border-bottom-style: dashed; }
i.s2 { border-color: var(--s2); border-bottom-style: dotted; }
"""


class Column(NamedTuple):
    """One line of a plot: a column of the rows per second, times `scale`. What `engine` alone tells
    is not drawn of a recording of a proxy."""

    name: str
    field: str
    scale: float = 1.0
    engine: bool = False


class SecondsPlot(NamedTuple):
    """Pooled by mean, or by the highest where `peaks`. `received` is the meaning through a proxy,
    where it is another."""

    title: str
    unit: str
    meaning: str
    columns: tuple[Column, ...]
    peaks: bool = False
    received: str = ""


_MS: Final = 1e-6
_PER_SECOND: Final = (
    SecondsPlot(
        "Tokens",
        "tok/s",
        "tokens at the end of their step",
        (
            Column("output", "generated_tokens"),
            Column("prompt, computed", "prefill_tokens", engine=True),
        ),
        received="tokens as their pieces came",
    ),
    SecondsPlot(
        "Requests",
        "",
        "as they stood at the end of each second",
        (Column("running", "running"), Column("waiting", "waiting", engine=True)),
    ),
    SecondsPlot(
        "KV pages",
        "",
        "as they stood at the end of each second",
        (
            Column("used", "pages_used", engine=True),
            Column("cached and unused", "pages_cached", engine=True),
        ),
    ),
    SecondsPlot(
        "Time to the first token, p95",
        "ms",
        "of the first tokens of each second; a gap is a second without one",
        (Column("TTFT p95", "ttft_p95_ns", _MS),),
        peaks=True,
    ),
    SecondsPlot(
        "Gap between tokens",
        "ms",
        "of the tokens of each second; a gap is a second without one",
        (
            Column("ITL p95", "itl_p95_ns", _MS),
            Column("ITL p50", "itl_p50_ns", _MS),
            Column("longest", "itl_max_ns", _MS),
        ),
        peaks=True,
    ),
    SecondsPlot(
        "What went wrong",
        "/s",
        "requests that lost their pages, and that ended without an answer, in each second",
        (Column("preempted", "preemptions", engine=True), Column("failed", "failed")),
        peaks=True,
        received="requests that ended without an answer, in each second",
    ),
)
_PER_DEVICE: Final = (
    SecondsPlot("busy", "%", "NVML's mean of each second", (Column("busy", "util_pct"),)),
    SecondsPlot("power", "W", "NVML's mean of each second", (Column("power", "power_w"),)),
)


def html_page(report: SessionReport, reader: SessionReader) -> str:
    """The whole document. Raises: SessionFileError where the file is damaged."""
    title = escape(one_line(headline(report)))
    body = [
        f"<h1>{title}</h1>",
        *_plots(report, reader),
        *(part for section in sections(report) for part in _section(section)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body>"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _section(section: Section) -> Iterator[str]:
    yield f"<h2>{escape(section.title)}</h2>"
    kind = ' class="wide"' if section.columns else ""
    yield f'<div class="scroll"><table{kind}>'
    if section.columns:
        yield f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in section.columns)}</tr>"
    for row in section.rows:
        yield f"<tr>{''.join(f'<td>{escape(one_line(cell))}</td>' for cell in row)}</tr>"
    yield "</table></div>"
    if section.note:
        yield f'<p class="note">{escape(one_line(section.note))}</p>'


def _plots(report: SessionReport, reader: SessionReader) -> Iterator[str]:
    rows = reader.seconds()
    for kind in _PER_SECOND if report.tells_steps else _received():
        yield _over_time(kind, kind.title, rows)
    yield _distribution(reader)
    seconds = reader.gpu_seconds()
    for device in report.devices:
        own = [row for row in seconds if row.device == device.device]
        for kind in _PER_DEVICE:
            yield _over_time(kind, f"GPU {device.device} {kind.title}", own)


def _received() -> Iterator[SecondsPlot]:
    """The plots of a recording of a proxy."""
    for kind in _PER_SECOND:
        columns = tuple(column for column in kind.columns if not column.engine)
        if columns:
            yield kind._replace(columns=columns, meaning=kind.received or kind.meaning)


def _over_time(
    kind: SecondsPlot, title: str, rows: Sequence[SecondRow] | Sequence[GpuSecond]
) -> str:
    series, size = [], 1
    for column in kind.columns:
        values = [getattr(row, column.field) for row in rows]
        scaled = [None if value is None else value * column.scale for value in values]
        points, size = thinned(scaled, max) if kind.peaks else thinned(scaled)
        series.append(Series(column.name, points))
    pooled = "highest" if kind.peaks else "mean"
    window = "1 s" if size == 1 else f"{size} s, the {pooled} of its seconds"
    note = f"{kind.meaning}; each point is {window}"
    return _figure(title, kind.unit, note, series, plot(series, _clock))


def _distribution(reader: SessionReader) -> str:
    """How many of all gaps between tokens were no longer than so much."""
    counts = gap_counts(reader)
    ordered = sorted(counts)
    points = cumulative([us / 1000 for us in ordered], [counts[us] for us in ordered])
    series = [Series("ITL", points)]
    drawing = plot(series, _milliseconds, log_x=True)
    note = f"share of {counts.total()} gaps that were no longer, whole session"
    return _figure("Gaps between tokens, cumulative", "%", note, series, drawing)


def _figure(title: str, unit: str, note: str, series: list[Series], drawing: str) -> str:
    if not drawing:
        return ""
    keys = "".join(f'<i class="s{n}">{escape(one.name)}</i>' for n, one in enumerate(series))
    head = escape(f"{title}, {unit}" if unit else title)
    return f"<figure><figcaption><b>{head}</b> {keys} {escape(note)}</figcaption>{drawing}</figure>"


def _milliseconds(ms: float) -> str:
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.3g} ms"


def _clock(second: float) -> str:
    """Time since the first second, as 1:02:03 or 2:03."""
    minutes, seconds = divmod(round(second), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
