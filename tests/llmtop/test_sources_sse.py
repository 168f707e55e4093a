"""The stream's framing, cut at every byte."""

import pytest

from llmtop.sources.sse import Frame, FrameReader
from profiler.errors import StreamError

STREAM = (
    b"id: 7\nevent: keyframe\ndata: AAAA\n\n"
    b": heartbeat\n\n"
    b'id: 8\r\nevent: step\r\ndata: {"a":\r\ndata: 1}\r\n\r\n'
    b"event:lag\ndata:{}\n\n"
)
FRAMES = [
    Frame("7", "keyframe", b"AAAA"),
    Frame("8", "step", b'{"a":\n1}'),
    Frame("", "lag", b"{}"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 16, 1000])
def test_frames_do_not_depend_on_how_the_bytes_arrive(size: int) -> None:
    reader = FrameReader()
    found = [
        frame for at in range(0, len(STREAM), size) for frame in reader.feed(STREAM[at : at + size])
    ]
    assert found == FRAMES


def test_an_event_without_an_end_is_refused() -> None:
    reader = FrameReader(max_frame_bytes=100)
    reader.feed(b"data: " + b"x" * 80)
    with pytest.raises(StreamError):
        reader.feed(b"x" * 80)
