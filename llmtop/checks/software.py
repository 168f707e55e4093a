"""Python, our packages and the libraries under them."""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from llmtop import __version__
from llmtop.checks.check import Check
from llmtop.commands.extras import INSTALL_ENGINE, missing_engine_modules

MIN_PYTHON: Final = (3, 11)
PACKAGES: Final = ("llmtop", "engine", "profiler")
VERSIONS: Final = ("textual", "httpx", "msgspec", "sqlite-utils")


def software() -> Iterator[Check]:
    yield python()
    yield packages()
    yield libraries()
    yield engine_extra()
    yield old_pynvml()


def python() -> Check:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] < MIN_PYTHON:
        return Check("python", "fail", found, "llmtop needs Python 3.11 or newer")
    return Check("python", "ok", found)


def packages() -> Check:
    """Whether `engine` and `profiler` are ours: another distribution may carry these names."""
    home = Path(__file__).resolve().parents[2]
    for name in PACKAGES:
        file = importlib.import_module(name).__file__
        if file is None or Path(file).resolve().parents[1] != home:
            hint = "uninstall the distribution that brought it, or use a new virtual environment"
            return Check("llmtop", "fail", f"the package {name} is another one: {file}", hint)
    return Check("llmtop", "ok", f"{__version__} in {home}")


def libraries() -> Check:
    try:
        found = ", ".join(f"{name} {metadata.version(name)}" for name in VERSIONS)
    except metadata.PackageNotFoundError as error:
        return Check("libraries", "fail", f"{error.name} is missing", "pip install -e .")
    return Check("libraries", "ok", found)


def engine_extra() -> Check:
    missing = missing_engine_modules()
    if missing:
        detail = f"no {', '.join(missing)}: attach and replay work, serve does not"
        return Check("engine", "warn", detail, INSTALL_ENGINE)
    return Check("engine", "ok", "every library of the engine extra is here")


def old_pynvml() -> Check:
    """The distribution named pynvml shadows nvidia-ml-py and warns whenever it is imported."""
    try:
        version = metadata.version("pynvml")
    except metadata.PackageNotFoundError:
        return Check("nvidia-ml-py", "ok", metadata.version("nvidia-ml-py"))
    detail = f"the deprecated distribution pynvml {version} is installed beside it"
    return Check("nvidia-ml-py", "warn", detail, "pip uninstall pynvml")
