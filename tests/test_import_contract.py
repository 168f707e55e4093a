"""The arrows of the house: who may import whom, by the source and by what really gets loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# A package, the modules it must never name anywhere, and what it may name all the same.
FORBIDDEN = {
    "profiler": ({"engine", "llmtop", "torch", "textual"}, set()),
    "engine": (
        {"llmtop", "textual", "httpx", "sqlite_utils", "pynvml", "profiler"},
        {"profiler.events", "profiler.bus"},
    ),
    "llmtop": ({"torch", "triton"}, {"llmtop/checks/devices.py imports torch"}),
}

# Modules, and what must not be loaded once they are: run in a new interpreter each.
LOADED = [
    (("profiler", "profiler.events", "profiler.bus"), ("engine", "llmtop", "torch", "sqlite3")),
    (("profiler.state", "profiler.session"), ("engine", "llmtop", "torch", "textual")),
    (("profiler.gpu", "profiler.prometheus"), ("engine", "llmtop", "torch", "textual")),
    (("profiler.compare.comparison",), ("engine", "llmtop", "torch", "textual")),
    (("llmtop.commands.compare", "llmtop.compare.markdown"), ("torch", "textual", "engine")),
    (("engine", "engine.config", "engine.request", "engine.errors"), ("torch", "llmtop")),
    (("engine.scheduler", "engine.kv.cache", "engine.kv.prefix"), ("torch", "llmtop")),
    (("engine.server.app", "engine.server.client"), ("torch", "textual", "httpx", "llmtop")),
    (("engine.models.registry", "engine.models.tokenizer"), ("torch", "llmtop")),
    (("llmtop.cli",), ("httpx", "textual", "msgspec", "torch", "sqlite_utils", "rich", "asyncio")),
    (("llmtop.app", "llmtop.plain"), ("torch", "starlette", "uvicorn", "zmq", "tokenizers")),
    (("llmtop.sources.remote", "llmtop.sources.replay"), ("torch", "starlette", "tokenizers")),
    (("llmtop.sources.engine",), ("torch", "triton")),
    (("llmtop.serving", "llmtop.serving_config"), ("torch", "triton", "textual")),
    (("llmtop.proxying", "llmtop.proxy.process"), ("torch", "textual", "zmq", "sqlite3", "httpx")),
    (("llmtop.proxy.observing",), ("torch", "textual", "zmq", "tokenizers")),
    (("llmtop.load",), ("torch", "textual", "engine")),
]

# Not pynvml: torch itself loads it where it is installed. The source check covers it.
ENGINE_NEVER = ("textual", "httpx", "sqlite_utils", "llmtop")


def modules_of(package: str) -> list[str]:
    files = sorted((ROOT / package).rglob("*.py"))
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


def imports_of(tree: ast.AST) -> Iterator[str]:
    """The absolute name of everything a file imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def trees_of(package: str) -> list[tuple[str, ast.AST]]:
    """Path and syntax of each file."""
    files = sorted((ROOT / package).rglob("*.py"))
    return [(f.relative_to(ROOT).as_posix(), ast.parse(f.read_text())) for f in files]


def is_inside(name: str, modules: set[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_source_names_only_what_lies_below(package: str) -> None:
    forbidden, allowed = FORBIDDEN[package]
    broken = []
    for path, tree in trees_of(package):
        for name in imports_of(tree):
            known = is_inside(name, allowed) or f"{path} imports {name}" in allowed
            if is_inside(name, forbidden) and not known:
                broken.append(f"{path} imports {name}")
    assert broken == []


def test_nothing_is_imported_relatively() -> None:
    relative = [
        f"{path}:{node.lineno}"
        for package in FORBIDDEN
        for path, tree in trees_of(package)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level > 0
    ]
    assert relative == []


def loaded_after(modules: tuple[str, ...], of: tuple[str, ...]) -> str:
    """Those names of `of` that an interpreter has loaded once it has imported `modules`."""
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(*[name for name in {of!r} if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.parametrize(("modules", "never"), LOADED, ids=lambda names: " ".join(names)[:40])
def test_loading_stays_light(modules: tuple[str, ...], never: tuple[str, ...]) -> None:
    assert loaded_after(modules, never) == ""


@pytest.mark.parametrize(
    ("package", "never"),
    [("profiler", ("engine", "llmtop", "torch", "textual")), ("engine", ENGINE_NEVER)],
)
def test_a_whole_package_loads_only_what_lies_below(package: str, never: tuple[str, ...]) -> None:
    assert loaded_after(tuple(modules_of(package)), never) == ""


def test_importing_a_package_does_no_work() -> None:
    for package in FORBIDDEN:
        body = ast.parse((ROOT / package / "__init__.py").read_text()).body
        assert all(isinstance(node, ast.Assign | ast.Expr) for node in body), package
