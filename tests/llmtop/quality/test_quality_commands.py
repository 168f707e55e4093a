"""`llmtop eval`, `tune` and `bench kv` as a person calls them."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import msgspec
import pytest
import torch

from engine.errors import EngineError
from engine.kv.kv_config import layer_formats
from engine.quality.subject import Subject
from engine.quality.text import Text
from llmtop.cli import main
from llmtop.quality.bar import Bar
from llmtop.quality.front import Dot, as_svg, as_text
from llmtop.quality.table import markdown, plain
from llmtop.quality.told import as_table
from llmtop.quality.tuned import tune

SMALL = ("random:tiny", "--window", "160", "--tokens", "320", "--kv-sink-pages", "0")


def test_eval_prints_a_row_a_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", *SMALL, "--kv-cache-dtype", "int8", "--kv-cache-dtype", "fp8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("random:tiny, 2 windows of 160 tokens of pydoc topics of Python")
    assert [line.split()[0] for line in lines[2:]] == ["format", "int8", "fp8"]


def test_eval_tells_every_number_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", *SMALL, "--kv-cache-dtype", "int8", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (result,) = told["formats"]
    assert (told["window_tokens"], told["num_windows"], result["name"]) == (160, 2, "int8")
    assert result["quality"]["num_tokens"] == 320
    assert 0 < result["quality"]["kl_mean"] < 1e-3


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["eval", *SMALL], 1, "A head of 16 channels cannot be packed 2 to a byte"),
        (["bench", "kv", *SMALL], 1, "cannot be packed"),
        (["tune", *SMALL, "--budget", "4"], 1, "cannot be packed"),
        (["eval", *SMALL, "--kv-cache-dtype", "int3"], 2, "int3"),
        (["eval", *SMALL, "--kv-config", "/none.yaml"], 1, "/none.yaml cannot be read"),
        (["eval", *SMALL, "--text", "/none.txt"], 1, "/none.txt cannot be read"),
        (
            ["eval", "random:tiny", "--window", "4K", "--tokens", "4K"],
            1,
            "beyond the model's 2048 positions",
        ),
        (["eval", "random:tiny", "--window", "200", "--tokens", "100"], 2, "less than one"),
        (
            ["eval", "--window", "128", "--tokens", "256"],
            2,
            "first 128 tokens are seen as they were",
        ),
        (["eval", "no-such-model"], 1, "no-such-model"),
        (["tune", *SMALL], 2, "--budget"),
        (
            ["tune", "--budget", "4", "-o", "/no-folder/kv.yaml"],
            1,
            "cannot write /no-folder/kv.yaml",
        ),
        (["bench", "kv", "--markdown", "--json"], 2, "exclude each other"),
    ],
)
def test_what_cannot_be_is_one_line(arguments, code, said, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_tune_overwrites_nothing(tmp_path, capsys) -> None:
    (tmp_path / "kv.yaml").write_text("mine")
    assert main(["tune", *SMALL, "--budget", "4", "-o", str(tmp_path / "kv.yaml")]) == 1
    assert "exists" in capsys.readouterr().err
    assert (tmp_path / "kv.yaml").read_text() == "mine"


@pytest.fixture(scope="module")
def subject(tiny_decoder) -> Subject:
    decoder, backend = tiny_decoder
    draw = torch.Generator().manual_seed(0)
    windows = torch.randint(320, (4, 161), generator=draw).tolist()
    return Subject("tiny", decoder, backend, Text("numbers", "0" * 64, ""), windows)


def test_a_budget_that_nothing_fits_is_refused_before_anything_is_measured(
    subject, tmp_path
) -> None:
    scores = tmp_path / "scores.json"
    with Bar() as bar, pytest.raises(EngineError, match=r"2\.5 bits") as found:
        tune(subject, 2.5, 0, scores, bar)
    assert "2.75" in found.value.hint and not scores.exists()


def test_a_tuning_is_measured_on_what_it_has_not_seen(subject, tmp_path) -> None:
    with Bar() as bar:
        tuned = tune(subject, 4.0, 0, tmp_path / "scores.json", bar)
    chosen = tuned.results[0]
    assert chosen.name == "tuned" and chosen.bits <= 4.0
    assert chosen.quality.num_tokens == 2 * 160  # the odd windows
    (tmp_path / "kv.yaml").write_text(tuned.config)
    assert layer_formats("auto", str(tmp_path / "kv.yaml"), 2) == tuned.points[0].formats
    assert "KL predicted" in tuned.config.splitlines()[1]
    assert as_table(subject, tuned.results).splitlines()[3].startswith("tuned")
    assert {dot.kind for dot in tuned.dots} == {"predicted", "measured", "uniform"}
    assert f"at {chosen.bits:.2f} bits" in tuned.verdict
    assert msgspec.json.decode((tmp_path / "scores.json").read_bytes())["subject"].startswith(
        "tiny"
    )


DOTS = [
    Dot("predicted", "predicted", 2.75, 0.1),
    Dot("measured", "tuned <3>", 3.5, 0.01),
    Dot("uniform", "int8", 8.5, 0.00001),
]


def test_the_front_in_cells_has_every_dot_in_its_place() -> None:
    lines = as_text(DOTS).splitlines()
    first = next(line for line in lines if "·" in line)
    last = next(line for line in reversed(lines[:16]) if "○" in line)
    assert lines.index(first) == 0 and first.split("│")[1][0] == "·"
    assert lines.index(last) == 15 and last.rstrip().endswith("○")
    assert "2.75" in lines[-2] and "8.50" in lines[-2]


def test_the_front_as_svg_is_well_formed_and_names_its_dots() -> None:
    root = ElementTree.fromstring(as_svg(DOTS, "A & B"))
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert "tuned <3>: 3.50 bits, KL 0.01000" in titles and len(titles) == 3


def test_tables_are_aligned() -> None:
    rows = [("a", "1.00"), ("longer", "10.00")]
    assert plain(("name", "bits"), rows) == "name     bits\na        1.00\nlonger  10.00"
    assert markdown(("name", "bits"), rows).splitlines()[1] == "| --- | ---: |"


def test_long_work_tells_how_far_it_is_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now_s = 0.0
    with Bar(lambda: now_s) as bar:
        for done in range(5):
            now_s = 20.0 * done
            bar.phase("layers", done, 60, "formats")
        now_s = 200.0
        bar.phase("reading", 7, 0, "")
    assert capsys.readouterr().err.splitlines() == [
        "layers: 2 of 60 formats",
        "layers: 4 of 60 formats",
        "reading: 7",
    ]
