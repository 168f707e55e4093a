from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from llmtop.commands.base import LlmtopCommand
from llmtop.commands.quality_options import quality_options

if TYPE_CHECKING:
    from engine.quality.evaluation import Candidate
    from engine.quality.subject import Subject

NAMES: Final = ("fp8", "int8", "k8v4", "int4", "k4v2", "int2")


@click.command(
    "eval",
    cls=LlmtopCommand,
    examples=(
        "llmtop eval                                       # every format, the default model",
        "llmtop eval --kv-cache-dtype int4 --kv-cache-dtype k8v4 --window 4K --tokens 16K",
        "llmtop eval smollm2-135m-instruct --text book.txt --kv-config kv.yaml --json",
    ),
)
@quality_options(window="1024", tokens="4096")
@click.option(
    "--kv-cache-dtype",
    "names",
    type=click.Choice(NAMES),
    multiple=True,
    help="A format to judge; repeatable.  [default: all]",
)
@click.option("--kv-config", metavar="FILE", help="Judge formats by layer too, as `tune` writes.")
@click.option("--json", "as_json", is_flag=True, help="Print every number as one JSON object.")
def command(
    model: str | None,
    text_file: str | None,
    window: int,
    tokens: int,
    dtype: str,
    kv_sink_pages: int,
    names: tuple[str, ...],
    kv_config: str | None,
    as_json: bool,
) -> int:
    """Measure what a packed KV cache does to a model's words.

    The model reads the text through the cache, as decoding would, and is held against itself with a
    cache that is not packed: ΔNLL in nats a token with its standard error between windows, KL of
    the next token, how often both think the same token likeliest. Memory is of packed pages, and
    of all that a window holds at its end.
    """
    from llmtop.commands.extras import require_engine

    require_engine()
    from llmtop.quality.bar import Bar
    from llmtop.quality.subject import judged, subject_of
    from llmtop.quality.told import as_table, to_json

    with Bar() as bar:
        subject = subject_of(model, text_file, window, tokens, dtype, kv_sink_pages, bar)
        candidates = _candidates(subject, names, kv_config, kv_sink_pages)
        results = judged(subject, candidates, bar)
    click.echo(to_json(subject, results) if as_json else as_table(subject, results))
    return 0


def _candidates(
    subject: Subject, names: tuple[str, ...], kv_config: str | None, num_sinks: int
) -> list[Candidate]:
    from engine.kv.formats import KV_FORMATS
    from engine.quality.cached import CacheShape
    from engine.quality.evaluation import Candidate

    shape, num_layers = CacheShape(num_sinks=num_sinks), subject.num_layers
    wanted = names or (() if kv_config else NAMES)
    candidates = [Candidate.uniform(name, KV_FORMATS[name], num_layers, shape) for name in wanted]
    if kv_config is not None:
        candidates.append(Candidate.from_file(kv_config, num_layers, shape))
    return candidates
