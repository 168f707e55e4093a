"""The part of the server-sent-events format that our stream uses, with limits."""

from __future__ import annotations

from typing import Final, NamedTuple

from profiler.errors import StreamError

# A keyframe of a session with 4096 steps of 64 requests is about 3 MiB in base64.
MAX_FRAME_BYTES: Final = 64 << 20


class Frame(NamedTuple):
    """One event of the stream: `id` "" if it carries none."""

    id: str
    event: str
    data: bytes


class FrameReader:
    """Turns chunks of bytes, cut anywhere, into frames.

    Source: the WHATWG HTML standard, "Server-sent events". Comments are dropped; a line ends with
    LF or CRLF.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._limit = max_frame_bytes
        self._rest = b""
        self._searched = 0

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that `chunk` completes. Raises: StreamError above the size limit."""
        data = self._rest + chunk.replace(b"\r", b"")
        frames: list[Frame] = []
        at = 0
        search = max(0, self._searched - 1)
        while (end := data.find(b"\n\n", max(at, search))) >= 0:
            frame = _parse(data[at:end])
            if frame is not None:
                frames.append(frame)
            at = end + 2
        self._rest = data[at:]
        self._searched = len(self._rest)
        if len(self._rest) > self._limit:
            raise StreamError(f"the stream sent an event of more than {self._limit >> 20} MiB")
        return frames


def _parse(block: bytes) -> Frame | None:
    frame_id = event = ""
    data: list[bytes] = []
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            event = value.decode("utf-8", "replace")
        elif name == b"id":
            frame_id = value.decode("utf-8", "replace")
    if not data and not event:
        return None
    return Frame(frame_id, event, b"\n".join(data))
