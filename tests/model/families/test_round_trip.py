"""Import and export are each other's inverse, tensor by tensor and byte by byte, and others read what we write."""

import json

import pytest
import torch
from families_small import SPECIAL, SPECS, hashes, model, weights
from safetensors.torch import load_file, save_file

import parity
from dokja.errors import ConfigError
from dokja.model.families import convert, export, family_of, load_model, read_config

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def same(a, b) -> bool:
    """Every parameter equal, by name."""
    mine, other = weights(a), weights(b)
    return mine.keys() == other.keys() and all(torch.equal(p, other[n]) for n, p in mine.items())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SPECS)
def test_import_and_export_give_back_every_byte(name, dtype, tmp_path):
    made = model(SPECS[name])
    export(made.spec, weights(made), tmp_path / "a", SPECIAL, dtype=DTYPES[dtype])
    loaded = load_model(tmp_path / "a", "auto")
    export(loaded.spec, weights(loaded), tmp_path / "b", SPECIAL)
    assert loaded.spec == made.spec
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert read_config(tmp_path / "a") == read_config(tmp_path / "b")
    assert read_config(tmp_path / "a")["model_type"] == name.split()[0] == family_of(made.spec)
    if dtype == "fp32":
        assert same(made, loaded)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("case", [c for c in parity.CASES if not c.startswith("exaone 3")])
def test_a_folder_of_transformers_comes_back_byte_equal_and_gives_equal_logits_there(case, tmp_path):
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    theirs = parity.checkpoint(case, tmp_path / "a")
    ours = load_model(tmp_path / "a")
    family = read_config(tmp_path / "a")["model_type"]
    export(ours.spec, weights(ours), tmp_path / "b", SPECIAL, family=family)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    auto = AutoModelForImageTextToText if family == "exaone4_5" else AutoModelForCausalLM
    again = auto.from_pretrained(tmp_path / "b", dtype=torch.float32, attn_implementation="eager").eval()
    ids = parity.tokens(2, 43)
    with torch.no_grad():
        assert torch.equal(again(ids).logits, theirs(ids).logits)
        assert (again(ids).logits - ours(ids)).abs().max() <= parity.LIMIT


def test_a_tied_model_has_one_vocabulary_matrix_in_the_file(tmp_path):
    for name in ("exaone tied", "exaone4 tied"):
        made = model(SPECS[name])
        export(made.spec, weights(made), tmp_path / name, SPECIAL)
        assert not [n for n in hashes(tmp_path / name) if "lm_head" in n]
        assert read_config(tmp_path / name)["tie_word_embeddings"] is True
        assert same(load_model(tmp_path / name), made)


def test_an_output_matrix_that_copies_the_tied_embedding_is_taken_as_such(tmp_path):
    made = model(SPECS["exaone4 tied"])
    export(made.spec, weights(made), tmp_path, SPECIAL)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    assert same(load_model(tmp_path), made)


def test_the_correction_bias_stays_fp32_and_beside_the_gate(tmp_path):
    made = model(SPECS["exaone_moe"])
    export(made.spec, weights(made), tmp_path, SPECIAL, dtype=torch.bfloat16)
    stored = load_file(tmp_path / "model.safetensors")
    bias = stored["model.layers.1.mlp.e_score_correction_bias"]
    assert bias.dtype == torch.float32 and torch.equal(bias, made.blocks[1].moe.router_bias)
    assert {t.dtype for n, t in stored.items() if "bias" not in n} == {torch.bfloat16}
    loaded = load_model(tmp_path, "auto")
    assert loaded.blocks[1].moe.router_bias.dtype == torch.float32
    assert not loaded.blocks[1].moe.router_bias.requires_grad and loaded.blocks[1].moe.up_weight.requires_grad


@pytest.mark.parametrize(("dtype", "matrices"), [(None, torch.float32), ("auto", torch.bfloat16)])
def test_matrices_come_in_the_dtype_that_was_asked_and_gains_in_fp32(dtype, matrices, tmp_path):
    made = model(SPECS["exaone4"])
    export(made.spec, weights(made), tmp_path, SPECIAL, dtype=torch.bfloat16)
    for p in load_model(tmp_path, dtype).parameters():
        assert p.dtype == (matrices if p.ndim > 1 else torch.float32)
    assert load_model(tmp_path, torch.float16).embed.dtype == torch.float16


@pytest.mark.parametrize("name", ["exaone_moe", "exaone_moe groups", "exaone_moe 2.0"])
def test_fused_experts_are_the_same_model_and_convert_both_ways(name, tmp_path):
    made = model(SPECS[name])
    export(made.spec, weights(made), tmp_path / "plain", SPECIAL)
    convert(tmp_path / "plain", tmp_path / "fused", fused=True)
    convert(tmp_path / "fused", tmp_path / "again")
    layer = made.spec.layers - 1
    fused = load_file(tmp_path / "fused" / "model.safetensors")
    assert torch.equal(fused[f"model.layers.{layer}.mlp.experts.gate_up_proj"], made.blocks[layer].moe.up_weight)
    assert same(load_model(tmp_path / "fused"), made)
    assert hashes(tmp_path / "again") == hashes(tmp_path / "plain") != hashes(tmp_path / "fused")


def test_experts_as_transformers_names_them_in_memory_are_read(tmp_path):
    case = "exaone_moe"
    theirs = parity.checkpoint(case, tmp_path / "a")
    (tmp_path / "b").mkdir()
    save_file(theirs.state_dict(), tmp_path / "b" / "model.safetensors")
    (tmp_path / "b" / "config.json").write_text((tmp_path / "a" / "config.json").read_text())
    names = load_file(tmp_path / "b" / "model.safetensors").keys()
    assert "model.layers.1.mlp.gate.e_score_correction_bias" in names and not any("experts.0." in n for n in names)
    assert same(load_model(tmp_path / "b"), load_model(tmp_path / "a"))


def test_exaone_and_llama_convert_into_each_other(tmp_path):
    made = model(SPECS["exaone tied"])
    export(made.spec, weights(made), tmp_path / "a", SPECIAL, dtype=torch.bfloat16)
    (tmp_path / "a" / "tokenizer.json").write_text("{}")
    (tmp_path / "a" / "modeling_exaone.py").write_text("raise SystemExit")
    convert(tmp_path / "a", tmp_path / "b", family="llama")
    convert(tmp_path / "b", tmp_path / "c", family="exaone", shard_bytes=4000)
    assert read_config(tmp_path / "b")["model_type"] == "llama"
    assert hashes(tmp_path / "a") == hashes(tmp_path / "c")
    assert read_config(tmp_path / "a") == read_config(tmp_path / "c")
    assert (tmp_path / "c" / "tokenizer.json").is_file() and not (tmp_path / "c" / "modeling_exaone.py").exists()
    with pytest.raises(ConfigError, match=r"exaone4 layout cannot say model\.norm"):
        convert(tmp_path / "a", tmp_path / "d", family="exaone4")
    with pytest.raises(ConfigError, match="onto itself"):
        convert(tmp_path / "a", tmp_path / "a")


@pytest.mark.parametrize("name", ["exaone4_5", "exaone_moe"])
def test_shards_hold_what_one_file_holds(name, tmp_path):
    made = model(SPECS[name])
    export(made.spec, weights(made), tmp_path / "one", SPECIAL, shard_bytes=None)
    export(made.spec, weights(made), tmp_path / "many", SPECIAL, shard_bytes=30_000)
    files = sorted((tmp_path / "many").glob("*.safetensors"))
    assert len(files) > 3 and files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert {f.name for f in files} == set(index["weight_map"].values())
    held = [load_file(f) for f in files]  # the safetensors package reads them too
    assert sum(t.nbytes for file in held for t in file.values()) == index["metadata"]["total_size"]
    assert all(len(file) == 1 or sum(t.nbytes for t in file.values()) <= 30_000 for file in held)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "many")
    assert same(load_model(tmp_path / "many"), made)
    export(made.spec, weights(made), tmp_path / "many", SPECIAL)  # the shards of before are gone
    assert [f.name for f in (tmp_path / "many").iterdir() if "safetensors" in f.name] == ["model.safetensors"]


def test_sharded_folders_load_in_transformers(tmp_path):
    from transformers import AutoModelForCausalLM

    theirs = parity.checkpoint("exaone_moe", tmp_path / "a")
    convert(tmp_path / "a", tmp_path / "b", shard_bytes=50_000)
    eager = {"dtype": torch.float32, "attn_implementation": "eager"}
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "b", **eager).eval()
    with torch.no_grad():
        assert torch.equal(again(parity.tokens(1, 9)).logits, theirs(parity.tokens(1, 9)).logits)


def test_a_multi_token_head_that_transformers_dropped_is_missed_by_nobody(tmp_path):
    from transformers import AutoModelForCausalLM

    made = model(SPECS["exaone_moe"])
    export(made.spec, weights(made), tmp_path / "a", SPECIAL)
    AutoModelForCausalLM.from_pretrained(tmp_path / "a", dtype=torch.float32).save_pretrained(tmp_path / "b")
    assert read_config(tmp_path / "b")["num_nextn_predict_layers"] == 1
    loaded = load_model(tmp_path / "b")
    assert loaded.spec.mtp is None and made.spec.mtp is not None
    assert torch.equal(loaded(parity.tokens(1, 9)), made(parity.tokens(1, 9)))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"activation": "relu2"}, "model.activation"),
        ({"qk_norm": False}, "model.qk_norm"),
        ({"norm": "pre", "qk_norm": False}, "model.qk_norm"),
        ({"rope": "all"}, "model.rope"),
        ({"pattern": "G", "window": None}, "model.rope"),
        ({"clamp": (1.0,) * 4}, "model.clamp"),
        ({"window": (6, 6, 5, 0)}, "model.window"),
        ({"norm": "pre", "vision": SPECS["exaone4_5"].vision}, "model.vision"),
        ({"moe": SPECS["exaone_moe"].moe}, "model.moe"),
    ],
    ids=str,
)
def test_a_spec_that_no_layout_can_say_is_refused_by_its_key(changes, key, tmp_path):
    from dataclasses import replace

    spec = replace(SPECS["exaone4"], **changes)
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        export(spec, weights(model(spec)), tmp_path, SPECIAL)
    assert list(tmp_path.iterdir()) == []
