"""What `llmtop attach` watches, by the options that it was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from llmtop.commands.credentials import with_keys
from llmtop.commands.exclusion import exclude
from llmtop.commands.extras import require_kv
from llmtop.commands.viewing_options import viewing_of
from llmtop.errors import LlmtopError
from llmtop.sources.kvendpoints import KvEndpoints, kv_endpoints

if TYPE_CHECKING:
    from llmtop.peer import Address
    from llmtop.sources.base import Source
    from llmtop.sources.feed import FeedOf

# What is read of one server, or asked of it, and of no fleet.
_OF_ONE: Final = ("--kv-events", "--gpu-metrics", "--drain-metrics", "--control")


def check_attach(urls: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raises: click.UsageError; LlmtopError for what is no endpoint."""
    exclude({"--web": options["web"], "--once": options["once"]})
    exclude({"--web": options["web"], "--alert-webhook": options["alert_webhook"]})
    exclude({"--readonly": options["readonly"], "--control": options["control"]})
    given = [flag for flag in _OF_ONE if options[_name(flag)]]
    beside = [flag for flag in given if flag != "--control"]
    if len(urls) > 1 and given:
        raise click.UsageError(f"{given[0]} is for one server: attach to it alone")
    if not urls and (beside or options["api_key_for"]):
        raise click.UsageError(f"{(*beside, '--api-key-for')[0]} needs the URL of its server")
    if urls:
        _endpoints(urls[0], options)


def addresses_of(urls: Sequence[str], options: Mapping[str, Any]) -> list[Address]:
    """The servers with their keys; without a URL those of this host that the person chooses, who
    get none. Raises: click.UsageError, LlmtopError."""
    if urls:
        return with_keys(urls, options["api_key_env"], options["api_key_for"])
    from llmtop.commands.choosing import choose, find_here

    chosen = with_keys(choose(find_here()), "", {})
    check_attach([address.url for address in chosen], options)
    return chosen


def words_of(addresses: Sequence[Address], options: Mapping[str, Any], asked: bool) -> list[str]:
    """The same as words behind `llmtop attach`, in an environment that has the keys; `asked` is
    False for servers that were found and get none."""
    from profiler.objectives import written

    words = [address.url for address in addresses]
    words += ["--api-key-env", options["api_key_env"] if asked else ""]
    for host, name in options["api_key_for"].items():
        words += ["--api-key-for", f"{host}={name}"]
    for text in options["kv_events"]:
        words += ["--kv-events", text]
    if options["gpu_metrics"]:
        words += ["--gpu-metrics", options["gpu_metrics"]]
    if options["drain_metrics"]:
        words.append("--drain-metrics")
    if options["slo"]:
        words += ["--slo", written(options["slo"])]
    return [*words, *viewing_of(options).flags]


def source_of(addresses: Sequence[Address], options: Mapping[str, Any]) -> Source:
    """Of what answers there now. Raises: LlmtopError if nothing of it can be shown."""
    if len(addresses) > 1:
        from llmtop.sources.fleet import FleetSource

        return FleetSource(addresses)
    url, api_key = addresses[0]
    beside = _beside(url, options)
    from llmtop.sources.metrics import MetricsSource
    from llmtop.sources.probing import probe
    from llmtop.sources.remote import RemoteSource

    target = probe(url, api_key, options["drain_metrics"])
    if target is not None:
        return MetricsSource(target, api_key, beside)
    if beside:
        raise LlmtopError(
            f"{url} shows no metrics page now, and --kv-events and --gpu-metrics go with one",
            "start that server first; an llmtop server tells of both without them",
        )
    return RemoteSource(url, api_key)


def _beside(url: str, options: Mapping[str, Any]) -> list[FeedOf]:
    """Raises: LlmtopError."""
    feeds: list[FeedOf] = []
    endpoints = _endpoints(url, options)
    if endpoints:
        require_kv()
        from llmtop.sources.kvfeed import KvFeed

        feeds.append(partial(KvFeed, endpoints))
    if options["gpu_metrics"] is not None:
        from llmtop.sources.gpufeed import GpuFeed

        feeds.append(partial(GpuFeed, options["gpu_metrics"]))
    return feeds


def _endpoints(url: str, options: Mapping[str, Any]) -> list[KvEndpoints]:
    """Of each rank, in their order. Raises: LlmtopError."""
    return [kv_endpoints(text, url) for text in options["kv_events"]]


def _name(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")
