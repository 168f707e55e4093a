"""Numbers as people read them: `--` is unavailable, 0 is zero."""

from __future__ import annotations

from datetime import datetime
from typing import Final

NONE: Final = "--"
_NICE: Final = (0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


def grouped(value: float | None) -> str:
    """Whole number with thin groups of three: 16 384."""
    return NONE if value is None else f"{value:,.0f}".replace(",", " ")


def short(value: float | None) -> str:
    """At most five characters: 7, 53.0, 3940, 21.3k, 1.2M."""
    if value is None:
        return NONE
    if isinstance(value, int) and 0 <= value < 10_000:  # most cells of most tables
        return str(value)
    for limit, unit in ((1e4, ""), (1e6, "k"), (1e9, "M"), (1e12, "G")):
        if abs(value) < limit:
            scaled = value / {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unit]
            digits = 0 if scaled >= 100 or float(scaled).is_integer() else 1
            return f"{scaled:.{digits}f}{unit}"
    return f"{value:.0e}"


def milliseconds(value_ms: float | None) -> str:
    """A latency in ms with three digits that count: 11.8, 84, 1 204."""
    if value_ms is None:
        return NONE
    return f"{value_ms:.1f}" if value_ms < 99.95 else grouped(value_ms)


def milliseconds_within(value_ms: float | None, width: int) -> str:
    """As `milliseconds`; in seconds or more, with their unit, where `width` does not hold it: a
    number that is cut is another number."""
    text = milliseconds(value_ms)
    return text if value_ms is None or len(text) <= width else seconds(round(value_ms * 1e6))


def ns_as_ms(value_ns: int | None) -> str:
    return NONE if value_ns is None else milliseconds(value_ns / 1e6)


def seconds(value_ns: int | None) -> str:
    """A short duration: 0.4s, 8.2s, 74s, 12m04."""
    if value_ns is None:
        return NONE
    value = max(0, value_ns) / 1e9
    if value < 99.95:
        return f"{value:.1f}s" if value < 59.95 else f"{value:.0f}s"
    minutes, rest = divmod(int(value), 60)
    return f"{minutes}m{rest:02d}" if minutes < 100 else f"{minutes // 60}h{minutes % 60:02d}"


def clock(value_ns: int | None) -> str:
    """Hours, minutes and seconds: 00:12:41."""
    if value_ns is None:
        return "--:--:--"
    total = max(0, value_ns) // 1_000_000_000
    return f"{total // 3600:02d}:{total // 60 % 60:02d}:{total % 60:02d}"


def moment(wall_ns: int) -> str:
    """Date and time here of a Unix time; NONE for 0, and for what no calendar has."""
    try:
        return f"{datetime.fromtimestamp(wall_ns / 1e9):%Y-%m-%d %H:%M:%S}" if wall_ns else NONE
    except (OverflowError, OSError, ValueError):
        return NONE


def size(num_bytes: float | None) -> str:
    """Binary units with three digits: 14.2 MiB."""
    if num_bytes is None:
        return NONE
    value = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"


def metric(value: float | None, unit: str) -> str:
    """Decimal units with three digits: 3.10 TB/s, 412 GFLOP/s."""
    if value is None:
        return NONE
    scaled, prefix = float(value), ""
    for larger in ("k", "M", "G", "T"):
        if abs(scaled) < 999.5:
            break
        scaled, prefix = scaled / 1e3, larger
    digits = 2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0
    return f"{scaled:.{digits}f} {prefix}{unit}"


def percent(part: float | None, whole: float = 100.0) -> str:
    """`part` of `whole` as 71%; less than one but not nothing says <1%."""
    if part is None or whole <= 0:
        return NONE
    value = 100.0 * part / whole
    return "<1%" if 0 < value < 0.5 else f"{value:.0f}%"


def short_name(name: str) -> str:
    """A request's name without what the API puts before all of them."""
    return name.removeprefix("chatcmpl-").removeprefix("cmpl-") or name


def nice_ceiling(value: float) -> float:
    """The least of 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten that is not below `value`.

    1 for nothing.
    """
    if value <= 0:
        return 1.0
    step = 1.0
    while step < value:
        step *= 10
    while step / 10 >= value:
        step /= 10
    return next(step * f for f in _NICE if step * f >= value)
