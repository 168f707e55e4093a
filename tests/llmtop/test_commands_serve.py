"""What `llmtop serve` makes of its options, and the socket it opens."""

import socket
from typing import Any

import click
import pytest

from llmtop.commands import serve
from llmtop.commands.engine_options import engine_config, whole_number
from llmtop.commands.listen import is_loopback, open_socket, url_of
from llmtop.errors import LlmtopError


def options_of(*arguments: str) -> dict[str, Any]:
    return serve.command.make_context("serve", list(arguments)).params


def test_no_option_gives_the_engines_own_defaults() -> None:
    from engine.config import EngineConfig

    assert engine_config(None, options_of()) == EngineConfig()


def test_every_setting_of_the_engine_has_its_option() -> None:
    from engine.config import EngineConfig, SchedulerConfig

    names = {*EngineConfig.__struct_fields__, *SchedulerConfig.__struct_fields__}
    # --control is what has captures rehearsed.
    assert names - {"scheduler", "rehearse_capture"} <= options_of().keys()


def test_options_reach_the_setting_they_name() -> None:
    config = engine_config(
        "m",
        options_of(
            *("--dtype", "half", "--block-size", "32", "--max-model-len", "4K"),
            *("--kv-cache-memory-bytes", "1.5G", "--num-gpu-blocks-override", "64"),
            *("--no-enable-prefix-caching", "--no-enable-chunked-prefill", "--enforce-eager"),
            *("--max-num-seqs", "8", "--max-num-batched-tokens", "512"),
            *("--scheduling-policy", "priority", "--max-num-queued-reqs", "5"),
            *("--kv-cache-dtype", "k8v4", "--kv-sink-pages", "0"),
        ),
    )
    assert (config.kv_cache_dtype, config.kv_sink_pages) == ("k8v4", 0)
    assert (config.model, config.dtype, config.block_size) == ("m", "float16", 32)
    assert (config.max_model_len, config.kv_cache_memory_bytes) == (4096, 3 << 29)
    assert config.num_gpu_blocks_override == 64
    assert not config.enable_prefix_caching and config.enforce_eager
    assert not config.scheduler.enable_chunked_prefill
    assert (config.scheduler.max_num_seqs, config.scheduler.max_num_batched_tokens) == (8, 512)
    assert config.scheduler.scheduling_policy == "priority"
    assert config.scheduler.max_num_queued_reqs == 5


def test_every_format_of_the_engine_can_be_asked_for() -> None:
    from engine.kv.formats import KV_FORMATS

    for name in KV_FORMATS:
        config = engine_config(None, options_of("--kv-cache-dtype", name))
        assert config.kv_cache_dtype == name
        assert config.page_tokens == (16 if name == "auto" else 64)


def test_formats_by_layer_are_named_by_their_file() -> None:
    config = engine_config(None, options_of("--kv-config", __file__, "--block-size", "32"))
    assert (config.kv_config, config.page_tokens) == (__file__, 32)


@pytest.mark.parametrize(
    ("text", "number"), [("4096", 4096), ("4k", 4000), ("4K", 4096), ("0.5M", 1 << 19)]
)
def test_whole_numbers_as_vllm_writes_them(text: str, number: int) -> None:
    assert whole_number(None, None, text) == number  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "K", "0", "-1", "1.5", "0.0001k", "nanK", "infK", "4q"])
def test_what_is_no_whole_number_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        whole_number(None, None, text)  # type: ignore[arg-type]


def test_the_key_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMTOP_API_KEY", "from-the-environment")
    assert options_of()["api_key"] == "from-the-environment"


def test_port_zero_takes_a_free_port_and_says_which() -> None:
    with open_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert port > 0
        assert url_of(listener) == f"http://127.0.0.1:{port}"
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_a_taken_port_is_one_clear_line() -> None:
    with (
        open_socket("127.0.0.1", 0) as listener,
        pytest.raises(LlmtopError, match="is taken") as caught,
    ):
        open_socket("127.0.0.1", listener.getsockname()[1])
    assert "--port 0" in caught.value.hint


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_is_only_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_anything_else_may_be_reached_by_others(host: str) -> None:
    assert not is_loopback(host)
