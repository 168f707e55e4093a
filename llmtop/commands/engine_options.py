"""The engine's settings as options, spelled as vLLM spells them."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import click

from llmtop.commands.number import Number

if TYPE_CHECKING:
    from engine.config import EngineConfig

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

# vLLM's other names for the same types.
DTYPES: Final = {"half": "float16", "float": "float32"}
KV_CACHE_DTYPES: Final = ("auto", "fp8", "int8", "int4", "int2", "k8v4", "k4v2")
# What torch takes for one.
SEED: Final = click.IntRange(-(2**63), 2**63 - 1)
SUFFIXES: Final = {
    "": 1,
    "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
    "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40,
}  # fmt: skip
SCHEDULER_OPTIONS: Final = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "enable_chunked_prefill",
    "long_prefill_token_threshold",
    "scheduling_policy",
    "async_scheduling",
    "max_num_queued_reqs",
    "max_num_queued_tokens",
)


def whole_number(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """4096, 4k (4000), 4K (4096), 1.5G. Raises: click.BadParameter."""
    if value is None:
        return None
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgtKMGT]?)", value)
    number = Fraction(parts[1]) * SUFFIXES[parts[2]] if parts else Fraction(0)
    if number < 1 or number.denominator != 1:
        raise click.BadParameter(f"{value!r} is not a number such as 4096, 4K or 2G")
    return int(number)


def engine_options() -> Decorator:
    """A decorator that adds every option that `engine_config` reads."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(OPTIONS):
            function = option(function)
        return function

    return decorate


def _count(name: str, help: str, **settings: Any) -> Decorator:
    return click.option(name, type=click.IntRange(min=1), help=help, **settings)


OPTIONS: Final[tuple[Decorator, ...]] = (
    click.option(
        "--dtype",
        type=click.Choice(["auto", "bfloat16", "float16", "float32", *DTYPES]),
        default="auto",
        show_default=True,
        help="Type of the weights and of the KV cache.",
    ),
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
    ),
    click.option(
        "--max-model-len",
        callback=whole_number,
        metavar="TOKENS",
        help="Longest prompt and answer together, such as 4096 or 4K.  [default: the model's]",
    ),
    click.option(
        "--block-size",
        type=click.IntRange(1, 1024),
        help="Tokens of a page of the KV cache. Packed pages of 16 take longer to read than others "
        "do.  [default: 16; 64 if pages are packed]",
    ),
    click.option(
        "--kv-cache-dtype",
        type=click.Choice(KV_CACHE_DTYPES),
        default="auto",
        show_default=True,
        help="Pack full pages: int8 and fp8 take about 1/2 of 16 bits, k8v4 2/5, int4 1/4, k4v2 "
        "and int2 less. int8 is nearly exact, int2 is not; see docs/kv-formats.md. On a CPU it "
        "saves memory; steps take about as long. On a GPU decoding is quicker, by a fifth with "
        "int4 and 4,096 tokens a request; prompts take 3 to 6 % longer.",
    ),
    click.option(
        "--kv-config",
        type=click.Path(exists=True, dir_okay=False, readable=True),
        metavar="FILE",
        help="Formats by layer instead, in YAML: 0: {nbits_key: 8, nbits_value: 4}",
    ),
    click.option(
        "--kv-sink-pages",
        type=click.IntRange(0, 64),
        default=1,
        show_default=True,
        help="First pages of a request that are not packed: attention looks at them most.",
    ),
    click.option(
        "--gpu-memory-utilization",
        type=Number(0, 1, min_open=True),
        default=0.9,
        show_default=True,
        help="Share of the device's memory that the engine may use.",
    ),
    click.option(
        "--kv-cache-memory-bytes",
        callback=whole_number,
        metavar="BYTES",
        help="Size of the KV cache instead, such as 2G.",
    ),
    _count("--num-gpu-blocks-override", "Number of pages instead; few pages show preemption."),
    _count("--max-num-seqs", "Requests in one step.", default=256, show_default=True),
    click.option(
        "--max-num-batched-tokens",
        callback=whole_number,
        metavar="TOKENS",
        default="2048",
        show_default=True,
        help="Tokens of one step, prompts and answers together.",
    ),
    click.option(
        "--enable-prefix-caching/--no-enable-prefix-caching", default=True, show_default=True
    ),
    click.option(
        "--enable-chunked-prefill/--no-enable-chunked-prefill", default=True, show_default=True
    ),
    click.option(
        "--long-prefill-token-threshold",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Prompt tokens that one request may take of a step; 0 is no bound.",
    ),
    click.option(
        "--scheduling-policy",
        type=click.Choice(["fcfs", "priority"]),
        default="fcfs",
        show_default=True,
    ),
    click.option(
        "--async-scheduling/--no-async-scheduling",
        default=None,
        help="Launch a step before the tokens of the one before are known.  [default: on a GPU]",
    ),
    _count(
        "--max-num-queued-reqs",
        "Requests that may wait; one more is answered 503.",
        default=1024,
        show_default=True,
    ),
    click.option(
        "--max-num-queued-tokens",
        callback=whole_number,
        metavar="TOKENS",
        help="Prompt tokens that may wait.  [default: no bound]",
    ),
    click.option("--enforce-eager", is_flag=True, help="No CUDA graphs."),
    click.option("--seed", type=SEED, default=0, show_default=True),
    _count("--num-threads", "Threads of the CPU backend.  [default: this machine's cores]"),
)


def engine_config(model: str | None, options: dict[str, Any]) -> EngineConfig:
    """The configuration in a command's parsed options; `model` None is the default model."""
    from engine.config import EngineConfig, SchedulerConfig

    scheduler = SchedulerConfig(**{name: options[name] for name in SCHEDULER_OPTIONS})
    settings = {
        name: options[name]
        for name in EngineConfig.__struct_fields__
        if name in options and name not in ("dtype", "model")
    }
    if model is not None:
        settings["model"] = model
    dtype: Any = DTYPES.get(options["dtype"], options["dtype"])
    return EngineConfig(dtype=dtype, scheduler=scheduler, **settings)
