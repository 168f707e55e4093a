from __future__ import annotations

import click

from llmtop.commands.base import LlmtopCommand, LlmtopGroup
from llmtop.commands.exclusion import exclude
from llmtop.commands.quality_options import quality_options


@click.group("bench", cls=LlmtopGroup, examples=("llmtop bench kv --tokens 16K",))
def command() -> None:
    """Measure parts of the engine by themselves."""


@command.command(
    "kv",
    cls=LlmtopCommand,
    examples=(
        "llmtop bench kv                                   # the default model, 4 windows",
        "llmtop bench kv --tokens 16K --markdown > table.md",
        "llmtop bench kv --kv-config tuned.yaml            # with formats of your own",
    ),
)
@quality_options(window="1024", tokens="4096")
@click.option("--kv-config", metavar="FILE", help="One row more: formats by layer.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print a Markdown table.")
@click.option("--json", "as_json", is_flag=True, help="Print every number as one JSON object.")
def kv(
    model: str | None,
    text_file: str | None,
    window: int,
    tokens: int,
    dtype: str,
    kv_sink_pages: int,
    kv_config: str | None,
    as_markdown: bool,
    as_json: bool,
) -> int:
    """Judge every KV cache format, and what each choice in it is worth.

    Quality and bytes as `llmtop eval` has them. Where there is a GPU, also the microseconds that
    attention of all layers takes in a step of 16 requests with 4,096 tokens each.
    """
    from llmtop.commands.extras import require_engine

    exclude({"--markdown": as_markdown, "--json": as_json})
    require_engine()
    from engine.quality.cached import CacheShape
    from engine.quality.decode_time import decode_us
    from engine.quality.evaluation import Candidate
    from llmtop.quality.ablation import ablation
    from llmtop.quality.bar import Bar
    from llmtop.quality.subject import judged, subject_of
    from llmtop.quality.told import as_table, to_json

    with Bar() as bar:
        subject = subject_of(model, text_file, window, tokens, dtype, kv_sink_pages, bar)
        candidates = ablation(subject.num_layers, kv_sink_pages)
        if kv_config is not None:
            shape = CacheShape(num_sinks=kv_sink_pages)
            candidates.append(Candidate.from_file(kv_config, subject.num_layers, shape))
        results = judged(subject, candidates, bar)
        us = decode_us(subject.decoder.config, candidates, bar.phase)
    if as_json:
        click.echo(to_json(subject, results, decode_us=us))
    else:
        click.echo(as_table(subject, results, as_markdown, us))
    return 0
