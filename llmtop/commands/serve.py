from __future__ import annotations

import socket
from dataclasses import replace
from functools import partial
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any

import click

from llmtop.commands.base import LlmtopCommand
from llmtop.commands.completing import models
from llmtop.commands.engine_options import engine_config, engine_options
from llmtop.commands.exclusion import exclude
from llmtop.commands.judging import fail_if_option, gate, slo_option, webhook_option
from llmtop.commands.serving_options import check_serving, serving_options
from llmtop.commands.viewing_options import viewing_of, viewing_options
from llmtop.commands.watching import Watch, watch, watch_engine
from llmtop.commands.web_options import watch_in_browser, web_options

if TYPE_CHECKING:
    from llmtop.serving_config import ServeConfig


@click.command(
    "serve",
    cls=LlmtopCommand,
    examples=(
        "llmtop serve                                    # SmolLM2-135M-Instruct, real and small",
        "llmtop serve ./Qwen2.5-7B-Instruct --port 8001  # a folder of safetensors",
        "llmtop serve Qwen/Qwen3-8B --headless           # from the hub, without the dashboard",
        "llmtop serve --slo guidellm-chat                # or 'ttft_p99<200ms,itl_p99<50ms'",
        "llmtop serve random:qwen2.5-7b                  # random weights, to measure speed",
    ),
)
@click.argument("model", required=False, shell_complete=models)
@serving_options(port=8000)
@click.option("--served-model-name", help="The name that clients use.")
@engine_options()
@web_options
@slo_option("Objectives: attainment is shown, a miss alerts.")
@webhook_option()
@viewing_options
@fail_if_option()
@click.option(
    "--control",
    is_flag=True,
    help="Take orders from all dashboards: T captures kernels, O measures what observing costs.",
)
@click.option(
    "--no-observe",
    is_flag=True,
    help="No events at all, to measure what they cost. Needs --headless.",
)
def command(model: str | None, **options: Any) -> int:
    """Serve a model and watch it work.

    MODEL is a name (`llmtop models`), a folder of safetensors, a .gguf file, an id of the hub or
    random:NAME. Without it the small default model is served.
    """
    from llmtop.commands.extras import require_engine
    from llmtop.commands.listen import open_socket

    _check(options)
    require_engine()
    with open_socket(options["host"], options["port"]) as listener:
        config = _config(model, listener, options)
        viewing = replace(viewing_of(options), owner_key=config.owner_key)
        in_terminal = partial(watch, viewing=viewing)
        show = watch_in_browser(options["web_port"], viewing) if options["web"] else in_terminal
        code = _run(config, listener, options["headless"], show)
    if not options["fail_if"]:
        return code
    from profiler.session.summary import session_values

    # A signal is how a server ends: the gate's answer is not lost over it.
    return gate(options["fail_if"], session_values(Path(str(config.session_path)))) or code


def _run(config: ServeConfig, listener: socket.socket, headless: bool, show: Watch) -> int:
    if headless:
        from llmtop.serving import run_server

        return run_server(config)
    return watch_engine(config, listener, show)


def _check(options: dict[str, Any]) -> None:
    """Raises: click.UsageError, LlmtopError."""
    headless = options["headless"]
    packed = options["kv_cache_dtype"] != "auto"
    exclude({"--headless": headless, "--web": options["web"]})
    exclude({"--kv-config": options["kv_config"], "--kv-cache-dtype": packed})
    if options["no_observe"] and not headless:
        raise click.UsageError("--no-observe needs --headless")
    if options["no_observe"] and (options["slo"] or options["alert_webhook"]):
        raise click.UsageError("--no-observe leaves nothing to judge")
    if options["no_observe"] and options["control"]:
        raise click.UsageError("--no-observe tells of no kernels")
    if options["fail_if"] and (options["no_record"] or options["no_observe"]):
        raise click.UsageError("--fail-if judges the recording")
    check_serving(options)


def _config(model: str | None, listener: socket.socket, options: dict[str, Any]) -> ServeConfig:
    import msgspec

    from llmtop.commands.session_files import chosen_session
    from llmtop.serving_config import ServeConfig
    from profiler.objectives import written

    engine = engine_config(model, options)
    engine = msgspec.structs.replace(engine, rehearse_capture=options["control"])
    record = not options["no_record"] and not options["no_observe"]
    return ServeConfig(
        engine=engine,
        host=options["host"],
        port=listener.getsockname()[1],
        socket_fd=listener.fileno(),
        api_key=options["api_key"],
        served_model_name=options["served_model_name"],
        record=record,
        session_path=chosen_session(engine.model, options["session"]) if record else None,
        observe=not options["no_observe"],
        drain_timeout_s=options["shutdown_timeout"],
        slo=written(options["slo"] or ()),
        alert_webhook=options["alert_webhook"],
        control=options["control"],
        owner_key=token_urlsafe(),
    )
