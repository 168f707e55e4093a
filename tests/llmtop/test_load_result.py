import pytest

from llmtop.load.answer import Answer, FailedRequestError
from llmtop.load.report import Objectives, RunFacts, make_report
from llmtop.load.result import Chunk, RequestResult
from llmtop.load.spec import LoadSpec
from llmtop.load.table import table

MS = 1_000_000
SPEC = LoadSpec("http://127.0.0.1:1", api_key="secret")
FACTS = RunFacts("m", "words", 0, [0.5])


def result(send_ms: int, *chunks_ms: int, per_chunk: int = 1, **more: object) -> RequestResult:
    chunks = tuple(Chunk(t * MS, per_chunk) for t in chunks_ms)
    facts: dict[str, object] = {
        "number": 0,
        "warmup": False,
        "t_arrival_ns": send_ms * MS,
        "t_send_ns": send_ms * MS,
        "t_done_ns": (chunks_ms[-1] if chunks_ms else send_ms) * MS,
        "chunks": chunks,
        "num_output_tokens": per_chunk * len(chunks),
        "usage": True,
        "chunks_counted": True,
    }
    return RequestResult(**(facts | more))


def test_latencies_follow_their_definitions() -> None:
    one = result(100, 130, 150, 190)
    assert one.ttft_ns == 30 * MS
    assert one.e2el_ns == 90 * MS
    assert one.tpot_ns == (90 - 30) * MS / 2
    assert one.icl_ns == [20 * MS, 40 * MS]
    assert one.itl_ns == [20 * MS, 40 * MS]


def test_a_chunk_of_k_tokens_is_k_gaps() -> None:
    one = result(0, 10, 40, per_chunk=3)
    assert one.icl_ns == [30 * MS]
    assert one.itl_ns == [10 * MS] * 3
    assert one.tpot_ns == 30 * MS / 5


def test_one_token_has_no_tpot_rather_than_zero() -> None:
    report = make_report(SPEC, [result(0, 10)], FACTS)
    assert report.latencies.tpot_ms is None
    assert report.latencies.itl_ms is None
    assert report.latencies.ttft_ms is not None


def test_a_failure_is_an_error_and_never_a_latency() -> None:
    failed = result(0, error="status 500: no", num_output_tokens=0)
    slow = result(0, 10, 5000, error="the stream ended early")
    report = make_report(SPEC, [result(0, 10, 20), failed, slow], FACTS)
    assert (report.num_ok, report.num_failed) == (1, 2)
    assert report.latencies.ttft_ms is not None and report.latencies.ttft_ms.n == 1
    assert report.latencies.e2el_ms is not None and report.latencies.e2el_ms.max == 20
    assert report.errors == {"status 500: no": 1, "the stream ended early": 1}
    assert report.throughput is not None and report.throughput.duration_s == 0.02


def test_the_warm_up_is_in_no_number() -> None:
    warm = result(0, 900, warmup=True)
    report = make_report(SPEC, [warm, result(1000, 1010, 1020)], FACTS)
    assert (report.num_warmup, report.num_ok) == (1, 1)
    assert report.throughput is not None and report.throughput.duration_s == 0.02
    assert report.num_output_tokens == 2


def test_goodput_counts_what_each_objective_binds() -> None:
    spec = LoadSpec("http://h", objectives=Objectives(ttft=20, tpot=15))
    results = [result(0, 10, 20), result(0, 30, 40), result(0, 10, 40), result(0, error="x")]
    report = make_report(spec, results, FACTS)
    assert report.goodput is not None
    assert report.goodput.share == 0.25
    assert report.goodput.missed == {"ttft": 1, "tpot": 1}


def test_steady_lies_between_the_first_answer_and_the_last_send() -> None:
    results = [result(0, 10, 100), result(0, 50, 110, 150, 300), result(200, 210, 400)]
    report = make_report(SPEC, results, FACTS)
    assert report.steady_output_tokens_per_s == pytest.approx(2 / 0.1)


@pytest.mark.parametrize(
    ("last", "cancelled"),
    [
        (result(110, 210, 400), 0),
        (result(200, 210, 400, error="the stream ended early"), 0),
        (result(200, 210, 400), 1),
    ],
    ids=["of a few chunks", "with a failure", "with a cancelled stream"],
)
def test_steady_is_not_told_where_it_would_leave_out_what_streams_brought(
    last: RequestResult, cancelled: int
) -> None:
    """A run that was stopped showed 3,957 tok/s of ten milliseconds, a dying server 4.8."""
    results = [result(0, 10, 100), result(0, 50, 110, 150, 300), last]
    report = make_report(SPEC, results, RunFacts("m", "words", cancelled, [0.5]))
    assert report.throughput is not None and report.steady_output_tokens_per_s is None
    assert "steady" not in table(report)


def test_prompts_that_were_sent_before_are_told() -> None:
    def told(prefix_share: float, cached: int) -> str:
        spec = LoadSpec("http://h", shared_prefix_share=prefix_share, shared_prefix_tokens=8)
        one = result(0, 10, num_prompt_tokens=100, num_cached_tokens=cached)
        return table(make_report(spec, [one], FACTS))

    assert "another --seed" in told(0.0, 96) and "another --seed" in told(0.5, 96)
    assert "another --seed" not in told(0.0, 4) + told(0.0, 0)
    assert "another --seed" not in told(1.0, 8)


def test_a_report_never_holds_the_key_and_prints_without_control_codes() -> None:
    hostile = result(0, error="status 500: \x1b[31mred\x07")
    report = make_report(SPEC, [hostile], RunFacts("m\x1b[2J", "words", 3, []))
    assert report.spec.api_key is None
    text = table(report)
    assert "\x1b" not in text and "\x07" not in text
    assert "3 cancelled" in text


def test_a_slow_client_says_so() -> None:
    report = make_report(SPEC, [result(0, 10)], RunFacts("m", "words", 0, [40.0] * 200))
    assert report.loop_lag_p99_ms == 40.0
    assert "the client itself was slow" in table(report)


def answer(*messages: str) -> Answer:
    gathered = Answer()
    for t_ns, message in enumerate(messages):
        gathered.add(message.encode(), t_ns)
    return gathered


def text_of(text: str) -> str:
    return f'{{"choices":[{{"text":"{text}"}}]}}'


def test_a_chat_answer_begins_with_its_first_text_not_with_its_role() -> None:
    gathered = answer(
        '{"choices":[{"delta":{"role":"assistant","content":""}}]}',
        '{"choices":[{"delta":{"content":"hi"}}]}',
        '{"choices":[{"delta":{},"finish_reason":"stop"}]}',
        "[DONE]",
    )
    gathered.check()
    assert [chunk.t_ns for chunk in gathered.chunks] == [1]


def test_continuous_usage_tells_how_many_tokens_a_chunk_has() -> None:
    gathered = answer(
        '{"choices":[{"text":"a"}],"usage":{"completion_tokens":1}}',
        '{"choices":[{"text":"bcd"}],"usage":{"completion_tokens":4}}',
        "[DONE]",
    )
    assert [chunk.num_tokens for chunk in gathered.chunks] == [1, 3]


def test_a_total_at_the_end_is_no_chunk() -> None:
    gathered = answer(
        text_of("a"), text_of("b"), '{"choices":[],"usage":{"completion_tokens":2}}', "[DONE]"
    )
    assert [chunk.num_tokens for chunk in gathered.chunks] == [1, 1]
    assert gathered.usage is not None and gathered.usage.completion_tokens == 2


@pytest.mark.parametrize(
    "messages",
    [
        ("[DONE]",),
        ('{"choices":[{"text":""}]}', "[DONE]"),
        (text_of("a"),),
        (text_of("a"), '{"choices":[],"usage":{"completion_tokens":0}}', "[DONE]"),
        ('{"error":{"message":"out of pages"}}',),
        ("nonsense",),
    ],
)
def test_what_is_no_whole_answer_fails(messages: tuple[str, ...]) -> None:
    with pytest.raises(FailedRequestError):
        answer(*messages).check()
