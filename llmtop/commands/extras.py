"""Whether the engine's libraries are there, found out without importing them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

from llmtop.errors import MissingExtraError

ENGINE_MODULES: Final = (
    "gguf",
    "huggingface_hub",
    "jinja2",
    "numba",
    "safetensors",
    "starlette",
    "tokenizers",
    "torch",
    "uvicorn",
    "zmq",
)
INSTALL_ENGINE: Final = "pip install -e '.[engine]'"

PROXY_MODULES: Final = ("h11", "starlette", "uvicorn")
INSTALL_PROXY: Final = "pip install -e '.[proxy]'"

INSTALL_KV: Final = "pip install -e '.[kv]'"

INSTALL_WEB: Final = "pip install -e '.[web]'"


def missing_engine_modules() -> list[str]:
    return [name for name in ENGINE_MODULES if find_spec(name) is None]


def require_engine() -> None:
    """Raises: MissingExtraError."""
    missing = missing_engine_modules()
    if missing:
        raise MissingExtraError(
            f"the engine is not installed: no {', '.join(missing)}",
            f"in llmtop's folder: {INSTALL_ENGINE}",
        )


def require_proxy() -> None:
    """Raises: MissingExtraError."""
    missing = [name for name in PROXY_MODULES if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"the proxy needs {' and '.join(missing)}, which this install lacks",
            f"in llmtop's folder: {INSTALL_PROXY}",
        )


def require_web() -> None:
    """Raises: MissingExtraError."""
    if find_spec("textual_serve") is None:
        raise MissingExtraError(
            "--web needs textual-serve, which is not installed",
            f"in llmtop's folder: {INSTALL_WEB}",
        )


def require_kv() -> None:
    """Raises: MissingExtraError."""
    if find_spec("zmq") is None:
        raise MissingExtraError(
            "--kv-events needs pyzmq, which is not installed",
            f"in llmtop's folder: {INSTALL_KV}",
        )
