"""The size of things: what is too long to read in one sitting is cut before it is merged."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("profiler", "engine", "llmtop")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            yield file.relative_to(ROOT).as_posix(), file.read_text()


@cache
def functions() -> list[tuple[str, Function]]:
    return [
        (f"{path}:{node.lineno} {node.name}", node)
        for path, text in sources()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, Function)
    ]


def num_lines(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def is_kernel(function: Function) -> bool:
    return any("jit" in ast.unparse(decorator) for decorator in function.decorator_list)


def test_no_file_is_longer_than_a_sitting() -> None:
    counted = [(path, len(text.splitlines())) for path, text in sources()]
    assert [entry for entry in counted if entry[1] > MAX_FILE_LINES] == []


def test_no_function_but_a_kernel_is_longer_than_a_screen() -> None:
    long = [
        (name, num_lines(function))
        for name, function in functions()
        if num_lines(function) > MAX_FUNCTION_LINES and not is_kernel(function)
    ]
    assert long == []


def test_most_functions_are_short() -> None:
    lines = [num_lines(function) for _, function in functions()]
    assert median(lines) < 10
    assert quantiles(lines, n=10)[-1] <= 30


def test_nothing_is_left_for_later() -> None:
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
    found = [(path, mark) for path, text in sources() for mark in marks if mark in text]
    assert found == []


def test_no_file_is_a_drawer_for_everything() -> None:
    names = {Path(path).stem for path, _ in sources()}
    assert not names & {"utils", "util", "helpers", "misc", "common"}
