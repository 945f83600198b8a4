"""A checkpoint that is not whole is named, never half loaded."""

import json
import struct

import pytest
import torch
from families_small import SPECIAL, SPECS, model, weights
from safetensors.torch import load_file, save_file

from dokja.errors import CheckpointError
from dokja.model.families import convert, export, load_model
from dokja.model.families.files import Draft, read_folder, write_file

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path):
    made = model(SPECS["exaone4"])
    export(made.spec, weights(made), tmp_path / "m", SPECIAL)
    return tmp_path / "m"


@pytest.fixture
def shards(tmp_path):
    made = model(SPECS["exaone4"])
    export(made.spec, weights(made), tmp_path / "s", SPECIAL, shard_bytes=30_000)
    return tmp_path / "s"


def refused(folder, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        load_model(folder)
    with pytest.raises(CheckpointError, match=sentence):
        convert(folder, folder.parent / "converted")
    assert not (folder.parent / "converted").exists()


def change(folder, edit):
    tensors = load_file(folder / FILE)
    edit(tensors)
    save_file(tensors, folder / FILE)


@pytest.mark.parametrize("left", [0, 4, 100, -1])
def test_a_file_cut_anywhere_is_truncated(folder, left):
    data = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(data[:left])
    refused(folder, "truncated or not safetensors")


@pytest.mark.parametrize("start", [b"PK\x03\x04 a zip, such as a pickle is", struct.pack("<Q", 10) + b"not json!!"])
def test_a_file_of_another_kind_is_not_safetensors(folder, start):
    (folder / FILE).write_bytes(start)
    refused(folder, "truncated or not safetensors")


def test_a_header_that_points_outside_the_file_or_lies_about_sizes_is_refused(folder):
    for entry in ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, {"dtype": "F32", "shape": [1]},
                  {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}):  # fmt: skip
        header = json.dumps({"model.norm.weight": entry}).encode()
        (folder / FILE).write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
        refused(folder, r"not safetensors \(model\.norm\.weight")


def test_a_missing_file_and_a_missing_config_are_named(folder):
    (folder / FILE).unlink()
    refused(folder, r"model\.safetensors is missing")
    (folder / "config.json").write_text("[")
    refused(folder, "is not JSON")
    (folder / "config.json").unlink()
    refused(folder, r"no config\.json")


def test_a_missing_tensor_is_named(folder):
    change(folder, lambda tensors: tensors.pop("model.layers.2.mlp.up_proj.weight"))
    refused(folder, r"lacks 1 tensors, the first model\.layers\.2\.mlp\.up_proj\.weight")


def test_a_foreign_tensor_is_named(folder):
    change(folder, lambda tensors: tensors.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(48)}))
    refused(folder, r"1 tensors that config\.json does not describe.*q_proj\.bias")


def test_a_misshapen_tensor_is_named(folder):
    change(folder, lambda tensors: tensors.update({"model.norm.weight": torch.zeros(31)}))
    refused(folder, r"model\.norm\.weight has shape \[31\], config\.json says \[32\]")


def test_a_transposed_tensor_is_misshapen_though_it_has_as_many_numbers(folder):
    name = "model.layers.1.mlp.down_proj.weight"
    change(folder, lambda tensors: tensors.update({name: tensors[name].T.contiguous()}))
    refused(folder, r"down_proj\.weight has shape \[40, 32\]")


def test_a_tied_config_beside_another_output_matrix_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    refused(folder, "differs from it")


def test_quantised_weights_are_refused_by_their_dtype(folder):
    gain = torch.zeros(32).to(torch.float8_e4m3fn)
    change(folder, lambda tensors: tensors.update({"model.norm.weight": gain}))
    refused(folder, "dtype F8_E4M3, which dokja does not compute with")


def test_a_missing_shard_is_named(shards):
    gone = sorted(shards.glob("*.safetensors"))[1]
    gone.unlink()
    refused(shards, rf"lacks 1 of \d+ files that its index names, the first {gone.name}")


def test_a_truncated_shard_is_named(shards):
    cut = sorted(shards.glob("*.safetensors"))[-1]
    cut.write_bytes(cut.read_bytes()[:-4])
    refused(shards, f"{cut.name} is truncated")


def test_an_index_and_shards_that_disagree_are_refused(shards):
    index = json.loads((shards / INDEX).read_text())
    files = sorted(set(index["weight_map"].values()))
    name = next(n for n, file in index["weight_map"].items() if file == files[0])
    (shards / INDEX).write_text(json.dumps({"weight_map": {**index["weight_map"], name: files[1]}}))
    refused(shards, "disagree about tensors")
    (shards / INDEX).write_text(json.dumps({"weight_map": {**index["weight_map"], name: "../m.safetensors"}}))
    refused(shards, "outside its folder")
    (shards / INDEX).write_text("{}")
    refused(shards, "not an index")


def test_a_file_that_ends_while_it_is_read_leaves_no_model(folder):
    stored = read_folder(folder)["lm_head.weight"]
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[: stored.offset + 10])  # after the header was read
    for dtype in (torch.float32, torch.bfloat16):
        with pytest.raises(CheckpointError, match="is truncated"):
            stored.read_into(torch.empty(stored.shape, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_files_are_written_and_read_as_the_safetensors_package_does(dtype, tmp_path):
    tensors = {"b": torch.randn(3, 5).to(dtype), "a": torch.randn(7).to(dtype), "n": torch.zeros(0, 4)}
    drafts = [Draft(n, t.dtype, tuple(t.shape), lambda t=t: t) for n, t in tensors.items()]
    write_file(tmp_path / FILE, drafts)
    other = load_file(tmp_path / FILE)
    assert other.keys() == tensors.keys() and all(torch.equal(t, other[n]) for n, t in tensors.items())
    save_file(tensors, tmp_path / FILE)
    assert all(torch.equal(stored.read(), tensors[n]) for n, stored in read_folder(tmp_path).items())


def test_numbers_are_cast_as_torch_casts_them_across_pieces(tmp_path, monkeypatch):
    from dokja.model.families import files

    monkeypatch.setattr(files, "_PIECE", 7)
    values = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    write_file(tmp_path / FILE, [Draft("x", torch.bfloat16, (5, 9), lambda: values)])
    stored = read_folder(tmp_path)["x"]
    assert torch.equal(stored.read(), values.bfloat16())
    target = torch.empty(5, 9)
    stored.read_into(target)
    assert torch.equal(target, values.bfloat16().float())
    with pytest.raises(ValueError, match="contiguous"):
        stored.read_into(torch.empty(9, 5).T)
