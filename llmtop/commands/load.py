from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from llmtop.commands.base import LlmtopCommand
from llmtop.commands.credentials import key_env_option
from llmtop.commands.exclusion import exclude
from llmtop.commands.judging import fail_if_option, gate, slo_option
from llmtop.commands.number import Number
from llmtop.commands.url import server_url

if TYPE_CHECKING:
    from llmtop.load import LoadReport, LoadSpec, Objectives
    from profiler.conditions import Condition

DEFAULT_CONCURRENCY: Final = 8
DEFAULT_PROMPTS: Final = 32
# One address has no more ports to connect from.
MOST_STREAMS: Final = 65_535
OBJECTIVES: Final = ("ttft", "tpot", "e2el")


@click.command(
    "load",
    cls=LlmtopCommand,
    examples=(
        "llmtop load http://127.0.0.1:8000 --concurrency 8",
        "llmtop load http://gpu-box:8000 --request-rate 12 --duration 60 --goodput ttft:500",
        "llmtop load http://127.0.0.1:8000 --num-prompts 200 --fail-if 'ttft_p99>500ms'",
        "llmtop load http://127.0.0.1:8000 --input-len 64-256,1024 --shared-prefix-share 0.5 \\",
        "    --shared-prefix-len 64 --num-prompts 200 --json result.json",
    ),
)
@click.argument("url", callback=server_url)
@click.option("--model", help="The model's name there.  [default: the first of /v1/models]")
@click.option("--endpoint", type=click.Choice(["completions", "chat"]), default="completions")
@click.option(
    "--concurrency",
    "--max-concurrency",
    type=click.IntRange(1, MOST_STREAMS),
    help=f"Closed loop: so many streams.  [default: {DEFAULT_CONCURRENCY}]  "
    "With --request-rate: at most so many in flight.",
)
@click.option(
    "--request-rate",
    type=Number(min=0, min_open=True),
    help="Poisson arrivals per second instead of a closed loop.",
)
@click.option(
    "--num-prompts",
    type=click.IntRange(min=1),
    help=f"Send so many requests.  [default: {DEFAULT_PROMPTS}, without --duration]",
)
@click.option("--duration", type=Number(min=0, min_open=True), help="Send for so many seconds.")
@click.option("--num-warmups", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--input-len", default="128", show_default=True, help='Tokens: "128", "64-256,1024".')
@click.option("--output-len", default="128", show_default=True, help="Tokens, in the same form.")
@click.option(
    "--shared-prefix-share",
    type=Number(0, 1),
    default=0.0,
    show_default=True,
    help="So many of the requests begin alike.",
)
@click.option("--shared-prefix-len", type=click.IntRange(min=1), help="With so many tokens.")
@click.option("--temperature", type=Number(min=0), default=0.0, show_default=True)
@click.option("--ignore-eos/--no-ignore-eos", default=True, show_default=True)
@click.option(
    "--continuous-usage/--no-continuous-usage",
    default=True,
    show_default=True,
    help="Ask for a token count in each chunk. OpenAI itself knows neither this nor ignore_eos.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--goodput", metavar="NAME:MS,...", help=f"Objectives: any of {', '.join(OBJECTIVES)}."
)
@slo_option("The same from objectives or a preset: what bounds a single request counts.")
@fail_if_option()
@click.option("--timeout", "timeout_s", type=Number(min=1), default=600.0)
@key_env_option("the server")
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help="Write the numbers there, - for standard output instead of the table.",
)
def command(url: str, json_path: Path | None, **options: Any) -> int:
    """Send load to a server and measure its answers.

    Any server with OpenAI's API will do. An answer with a status other than 200 or without
    generated tokens is an error, never a latency. Ctrl-C ends the run and prints what was measured.
    """
    if json_path is not None and not json_path.absolute().parent.is_dir():
        raise click.UsageError(f"there is no folder {json_path.absolute().parent}")
    from llmtop.commands.loading import run_to_end
    from llmtop.errors import LoadError
    from llmtop.load.report import report_values

    try:
        spec = _spec(url, options)
    except LoadError as error:
        raise click.UsageError(f"{error.message}; {error.hint}".rstrip("; ")) from None
    report, interrupted = run_to_end(spec)
    _show(report, json_path)
    if interrupted:
        return 130
    code = 0 if report.num_ok and not report.num_failed else 1
    return gate(options["fail_if"], report_values(report), code)


def _spec(url: str, options: dict[str, Any]) -> LoadSpec:
    from llmtop.load import Lengths, LoadSpec

    rate, concurrency = options["request_rate"], options["concurrency"]
    num_prompts, duration_s = options["num_prompts"], options["duration"]
    share, prefix_tokens = options["shared_prefix_share"], options["shared_prefix_len"]
    if bool(share) != bool(prefix_tokens):
        raise click.UsageError("--shared-prefix-share and --shared-prefix-len need each other")
    if concurrency is None:
        concurrency = DEFAULT_CONCURRENCY if rate is None else 0
    if num_prompts is None and duration_s is None:
        num_prompts = DEFAULT_PROMPTS
    return LoadSpec(
        base_url=url,
        model=options["model"],
        api_key=os.environ.get(options["api_key_env"]),
        endpoint=options["endpoint"],
        concurrency=concurrency,
        rate_per_s=rate,
        num_requests=num_prompts,
        duration_s=duration_s,
        warmup_requests=options["num_warmups"],
        prompt_tokens=Lengths.parse(options["input_len"]),
        output_tokens=Lengths.parse(options["output_len"]),
        shared_prefix_share=share,
        shared_prefix_tokens=prefix_tokens or 0,
        ignore_eos=options["ignore_eos"],
        continuous_usage=options["continuous_usage"],
        temperature=options["temperature"],
        seed=options["seed"],
        timeout_s=options["timeout_s"],
        objectives=_objectives(options["goodput"], options["slo"]),
    )


def _objectives(text: str | None, slo: tuple[Condition, ...] | None) -> Objectives | None:
    """The objectives in "ttft:500,tpot:40", or the bounds of `slo` on a single request."""
    from llmtop.load import Objectives

    exclude({"--goodput": text is not None, "--slo": slo is not None})
    if slo is not None:
        from profiler.objectives import request_bounds

        bounds = request_bounds(slo)
        return Objectives(bounds.ttft_ms, bounds.tpot_ms, bounds.e2el_ms)
    if text is None:
        return None
    limits: dict[str, float] = {}
    for part in text.replace(",", " ").split():
        name, _, limit_ms = part.partition(":")
        limits[name] = _limit_ms(part, limit_ms)
    unknown = limits.keys() - set(OBJECTIVES)
    if unknown or not limits:
        raise click.UsageError(f"--goodput: name one of {', '.join(OBJECTIVES)}")
    return Objectives(**limits)


def _limit_ms(part: str, text: str) -> float:
    try:
        limit_ms = float(text)
    except ValueError:
        raise click.UsageError(f"--goodput: {part!r} is not NAME:MS") from None
    if not 0 < limit_ms < math.inf:
        raise click.UsageError(f"--goodput: {part!r} bounds nothing; MS is a number above 0")
    return limit_ms


def _show(report: LoadReport, json_path: Path | None) -> None:
    import msgspec

    from llmtop.errors import LlmtopError
    from llmtop.load.table import table

    document = msgspec.json.format(msgspec.json.encode(report), indent=2)
    if json_path == Path("-"):
        click.echo(document)
        return
    click.echo(table(report))
    if json_path is None:
        return
    try:
        json_path.write_bytes(document + b"\n")
    except OSError as error:
        raise LlmtopError(f"cannot write {json_path}: {error.strerror}") from None
