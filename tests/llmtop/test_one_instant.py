"""One instant of a real run is the same live, rewound and replayed, preemptions and all."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import httpx
import pytest

from engine.config import EngineConfig
from llmtop.serving_config import ServeConfig
from llmtop.sources.engine import EngineSource
from llmtop.sources.replay import ReplaySource
from profiler.state import SessionState

WITHIN_S = 90


def ask(url: str, number: int) -> int:
    body = {"model": "random:tiny", "prompt": f"{number} " * 40, "max_tokens": 120}
    return httpx.post(f"{url}/v1/completions", json=body, timeout=WITHIN_S).status_code


def is_ready(state: SessionState) -> bool:
    return any(span.name == "ready" for span in state.phases.spans)


def pictures(source: EngineSource, url: str) -> dict[int, bytes]:
    """What was shown live, by its time, while six requests fight for pages that are too few."""
    shown: dict[int, bytes] = {}
    deadline = time.monotonic() + WITHIN_S
    while not is_ready(source.poll(time.monotonic_ns())):
        assert time.monotonic() < deadline, source.connection
        time.sleep(0.02)
    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(ask, url, number) for number in range(24)]
        rest = 20  # pictures after the last answer, when nothing is on its way
        while rest := rest - all(answer.done() for answer in answers):
            state = source.poll(time.monotonic_ns())
            shown[state.t_ns] = state.keyframe()
            time.sleep(0.03)
    assert {answer.result() for answer in answers} == {200}
    return shown


def test_live_rewound_and_replayed_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTOP_HOME", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    listener = socket.create_server(("127.0.0.1", 0))
    engine = EngineConfig(model="random:tiny", num_threads=1, num_gpu_blocks_override=32)
    path = tmp_path / "session.db"
    config = ServeConfig(engine=engine, socket_fd=listener.fileno(), session_path=str(path))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    source = EngineSource(config, listener, url)
    source.start()
    try:
        shown = pictures(source, url)
    finally:
        source.stop()
    replay, exact = ReplaySource(path), 0
    folded = source.ring.state_at(source.ring.start_ns)
    for t_ns, keyframe in shown.items():
        rewound, live_seq = source.ring.state_at(t_ns), SessionState.restore(keyframe).seq
        replay.seek(t_ns)
        assert rewound.keyframe() == replay.poll(0).keyframe()
        # Events of this instant may have been on their way when it was shown: up to what was here
        # the ring tells the same, and where nothing was missing, so does the instant.
        for seq, event in islice(source.ring.events(folded.seq), live_seq - folded.seq):
            folded.apply(event, seq)
        folded.advance(t_ns)
        assert folded.keyframe() == keyframe
        if rewound.seq == live_seq:
            assert rewound.keyframe() == keyframe
            exact += 1
    replay.stop()
    assert exact >= 10
    assert folded.requests.num_preemptions
