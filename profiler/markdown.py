"""A session's report as Markdown, for a pull request or an issue."""

from __future__ import annotations

import re
from collections.abc import Iterator

from profiler.report import SessionReport
from profiler.report_sections import Section, headline, one_line, sections

# What Markdown or the HTML within it would take for markup; names come from clients.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|~#!&@])")


def markdown(report: SessionReport) -> str:
    """One table a section, with a line break at the end."""
    lines = [f"## {plain(headline(report))}"]
    for section in sections(report):
        lines += ["", f"### {section.title}", "", *_table(section)]
        if section.note:
            lines += ["", plain(section.note)]
    return "\n".join(lines) + "\n"


def _table(section: Section) -> Iterator[str]:
    columns = section.columns or ("", "")
    yield _row(columns)
    left = "|---" * (1 if section.columns else 2)
    yield left + "|--:" * (len(columns) - (1 if section.columns else 2)) + "|"
    for row in section.rows:
        yield _row(row)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(plain(cell) for cell in cells)} |"


def plain(text: str) -> str:
    """`text` on one line and read as nothing but itself."""
    return _MARKUP.sub(r"\\\1", one_line(text))
