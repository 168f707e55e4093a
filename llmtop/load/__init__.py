"""Load for any OpenAI server, and what came of it."""

from llmtop.load.generator import run_load
from llmtop.load.report import LoadReport
from llmtop.load.result import RequestResult
from llmtop.load.spec import Lengths, LoadSpec, Objectives, demo_spec

__all__ = [
    "Lengths",
    "LoadReport",
    "LoadSpec",
    "Objectives",
    "RequestResult",
    "demo_spec",
    "run_load",
]
