"""Load for any OpenAI server, and what came of it.

`await run_load(LoadSpec(url, ...), progress, stop)` runs a spec to its end and gives a LoadReport;
`LoadGenerator(url, api_key)` is load to switch on and off (`start()`, `await stop()`, `running`,
`progress`). A `LoadProgress` may be read at any time while either runs.
"""

from llmtop.load.generator import run_load
from llmtop.load.progress import LoadProgress
from llmtop.load.report import LoadReport
from llmtop.load.result import RequestResult
from llmtop.load.spec import Lengths, LoadSpec, Objectives, demo_spec
from llmtop.load.switch import LoadGenerator

__all__ = [
    "Lengths",
    "LoadGenerator",
    "LoadProgress",
    "LoadReport",
    "LoadSpec",
    "Objectives",
    "RequestResult",
    "demo_spec",
    "run_load",
]
