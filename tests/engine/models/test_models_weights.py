"""Weights come whole from their files, or one line says which file is not."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.cpu.backend import CpuBackend
from engine.errors import ModelError
from engine.models import checkpoint
from engine.models.checkpoint import CheckpointWriter
from engine.models.folder import INDEX_NAME, ModelFolder
from engine.models.registry import ModelRegistry
from engine.models.weights import load_decoder


def logits(folder, batch_of, seed=0):
    backend = CpuBackend(torch.float32, 1)
    decoder = load_decoder(folder, backend, seed=seed)
    config = decoder.config
    pools = [
        backend.allocate_pool(4, config.num_kv_heads, 16, config.head_dim)
        for _ in range(config.num_layers)
    ]
    return decoder.forward(batch_of([(list(range(20)), 0, [2, 1])], 16), pools)


@pytest.fixture
def folder(reference_of, tmp_path):
    shutil.copytree(reference_of("qwen2")[1], tmp_path / "model")
    return tmp_path / "model"


def test_shards_are_one_model(folder, batch_of):
    whole = logits(ModelFolder.open(folder), batch_of)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards = [dict(list(tensors.items())[part::3]) for part in range(3)]
    weight_map = {}
    for number, shard in enumerate(shards):
        save_file(shard, folder / f"part{number}.safetensors")
        weight_map |= dict.fromkeys(shard, f"part{number}.safetensors")
    (folder / INDEX_NAME).write_text(json.dumps({"weight_map": weight_map}))
    assert torch.equal(logits(ModelFolder.open(folder), batch_of), whole)
    (folder / "part1.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks part1\.safetensors"):
        ModelFolder.open(folder)


def test_an_index_cannot_name_files_elsewhere(folder):
    (folder / "model.safetensors").unlink()
    for weight_map in ({"a": "../x.safetensors"}, {}, "text"):
        (folder / INDEX_NAME).write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(ModelError, match=INDEX_NAME):
            ModelFolder.open(folder)


def test_a_cut_or_foreign_file_is_one_line(folder):
    path = folder / "model.safetensors"
    data = path.read_bytes()
    for broken in (b"", data[:6], data[:200], data[:-10], b"\xff" * 100):
        path.write_bytes(broken)
        with pytest.raises(ModelError) as caught:
            load_decoder(ModelFolder.open(folder), CpuBackend(torch.float32, 1))
        assert "model.safetensors" in caught.value.message
        assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("model.norm.weight"), "lacks tensor model.norm.weight"),
        (lambda t: t.update({"model.norm.weight": torch.ones(3)}), "(3,)"),
        (lambda t: t.update({"model.norm.weight": torch.ones(48).char()}), "quantised"),
    ],
)
def test_tensors_that_do_not_fit_the_config_are_named(folder, change, words):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError) as caught:
        load_decoder(ModelFolder.open(folder), CpuBackend(torch.float32, 1))
    assert words in caught.value.message


def test_a_folder_without_weights_says_what_it_wants(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no \.safetensors") as caught:
        ModelFolder.open(folder)
    assert "convert" in caught.value.hint


def test_a_seed_decides_random_weights(tmp_path, batch_of):
    folder = ModelRegistry(tmp_path).resolve("random:tiny")
    first, again, other = (logits(folder, batch_of, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.isfinite().all()
    assert len(first.argmax(-1).unique()) > 5  # not one token for ever


def test_large_checkpoints_are_written_in_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SHARD_BYTES", 100)
    writer = CheckpointWriter(tmp_path)
    values = {f"t{n}": np.full((5, 4), n + 0.5, np.float32) for n in range(7)}
    for name, array in values.items():
        writer.add(name, array)
    writer.close()
    index = json.loads((tmp_path / INDEX_NAME).read_text())
    assert set(index["weight_map"]) == set(values)
    assert len(set(index["weight_map"].values())) == 3
    for name, file in index["weight_map"].items():
        tensor = load_file(tmp_path / file)[name]
        assert tensor.dtype == torch.bfloat16
        assert np.array_equal(tensor.float().numpy(), values[name])


def test_loading_tells_how_far_it_is(folder):
    told = []
    load_decoder(
        ModelFolder.open(folder), CpuBackend(torch.float32, 1), lambda *facts: told.append(facts)
    )
    assert told == [("load", n, 3, "layers") for n in range(4)]
