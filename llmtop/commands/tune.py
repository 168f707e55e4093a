from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from llmtop.commands.base import LlmtopCommand
from llmtop.commands.number import Number
from llmtop.commands.quality_options import quality_options

if TYPE_CHECKING:
    from llmtop.quality.tuned import Tuned


@click.command(
    "tune",
    cls=LlmtopCommand,
    examples=(
        "llmtop tune --budget 3.5                          # writes kv-3.5.yaml",
        "llmtop tune smollm2-135m-instruct --text book.txt --budget 5 -o kv.yaml --svg front.svg",
    ),
)
@quality_options(window="1024", tokens="2048")
@click.option(
    "--budget",
    type=Number(min=0, min_open=True),
    required=True,
    help="Bits an element of a packed page, metadata included.",
)
@click.option("-o", "--output", metavar="FILE", help="The --kv-config to write.")
@click.option("--svg", metavar="FILE", help="Draw the front there too.")
@click.option(
    "--scores",
    metavar="FILE",
    help="Where measurements are kept; the same command goes on from them.  [default: a cache]",
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print every number as one JSON object.")
def command(
    model: str | None,
    text_file: str | None,
    window: int,
    tokens: int,
    dtype: str,
    kv_sink_pages: int,
    budget: float,
    output: str | None,
    svg: str | None,
    scores: str | None,
    force: bool,
    as_json: bool,
) -> int:
    """Choose a KV cache format for each layer, within a budget.

    Each layer's K and V are packed alone and held against the unpacked model (KL of the next
    token); from these the best formats for the budget are chosen, and for other sizes as well.
    What was chosen is then measured, on other windows of the text, beside every named format.
    Ctrl-C loses nothing: the same command goes on. `llmtop serve --kv-config FILE` uses the choice.
    """
    from llmtop.commands.extras import require_engine

    require_engine()
    from llmtop.outfile import new_file, refuse_early
    from llmtop.quality.bar import Bar
    from llmtop.quality.front import as_svg, as_text
    from llmtop.quality.subject import subject_of
    from llmtop.quality.told import to_json
    from llmtop.quality.tuned import tune

    written = Path(output or f"kv-{budget:g}.yaml")
    for file in (written, *([Path(svg)] if svg else ())):
        refuse_early(file, force)
    with Bar() as bar:
        # Twice the tokens: chosen on every other window, measured on those between.
        subject = subject_of(model, text_file, window, 2 * tokens, dtype, kv_sink_pages, bar)
        try:
            tuned = tune(
                subject, budget, kv_sink_pages, None if scores is None else Path(scores), bar
            )
        except KeyboardInterrupt:
            click.echo("stopped; the same command goes on from here", err=True)
            raise
    with new_file(written, force) as file:
        file.write(tuned.config.encode())
    if svg:
        with new_file(Path(svg), force) as file:
            file.write(as_svg(tuned.dots, tuned.title).encode())
    if as_json:
        click.echo(to_json(subject, tuned.results, budget=budget, chosen=tuned.chosen))
    else:
        click.echo(f"{as_text(tuned.dots)}\n\n{tuned.table(subject)}")
    _say_verdict(tuned, written)
    return 0


def _say_verdict(tuned: Tuned, written: Path) -> None:
    click.echo(f"\n{tuned.verdict}\nwritten: {written}", err=True)
