"""A session as lines of JSON, one event each."""

from __future__ import annotations

from profiler.events import Event, encode_event


def event_line(seq: int, event: Event) -> bytes:
    """The event as on the wire, its number in the stream under "seq", and a line break.

    `decode_event` reads it back; it looks over "seq".
    """
    return b'{"seq":%d,' % seq + encode_event(event)[1:] + b"\n"
