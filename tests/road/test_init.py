"""What a recipe takes from the checkpoint it starts from, and what it is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from official_small import source

from dokja.data.shards import ShardSet
from dokja.errors import CheckpointError, ConfigError, DataError
from dokja.ledger.metrics import read_metrics
from dokja.model.decoder import Decoder
from dokja.model.families import export
from dokja.model.spec import ModelSpec
from dokja.recipe import load_recipe
from dokja.road import build, start
from dokja.road.speech import foreign_ids
from dokja.text.tokenizer import Tokenizer, train_tokenizer

SPEC = ModelSpec(
    vocab=320, width=32, layers=4, heads=4, kv_heads=2, head_dim=8, ffn=64, context=65_536, pattern="LLLG", window=8
)
NC = "EXAONE AI Model License Agreement 1.2 - NC\n"


def checkpoint(folder: Path, spec: ModelSpec = SPEC, dtype: torch.dtype = torch.bfloat16, licence: str = "") -> Path:
    """A small release in `folder`."""
    model = Decoder(spec).init_weights(0)
    export(spec, dict(model.named_parameters()), folder, {"bos": 1, "eos": 2, "pad": 0}, dtype=dtype)
    train_tokenizer(["하나 둘 셋 one two three " * 20], 300).save(folder)
    if licence:
        (folder / "LICENSE").write_text(licence)
    else:
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("base") / "model")


def recipe(folder: Path, init: Path, text: str = "") -> Path:
    path = folder / "mine.toml"
    path.write_text(f'name = "mine"\ninit = "{init}"\n{text}')
    return path


def test_shape_vocabulary_and_dtype_come_from_the_checkpoint(base: Path, tmp_path: Path) -> None:
    found, rows = start.explain(recipe(tmp_path, base, "[sft]\n"))
    m = found.model
    assert (m.layers, m.width, m.heads, m.kv_heads, m.head_dim, m.ffn, m.window) == (4, 32, 4, 2, 8, 64, 8)
    assert (found.scale, found.tokenizer.vocab, m.context, found.release.dtype) == (4, 320, 65_536, "bfloat16")
    assert (found.release.licence, found.release.name) == ("Apache-2.0", "mine")
    origin = {row.key: row.source for row in rows}
    assert {origin[k] for k in ("model.layers", "model.context", "tokenizer.vocab", "scale")} == {"the checkpoint's"}


def test_rows_are_far_shorter_than_a_long_context_unless_the_recipe_says_so(base: Path, tmp_path: Path) -> None:
    found, rows = start.explain(recipe(tmp_path, base, "[sft]\n[rl]\n"))
    assert (found.sft.seq_len, found.rl.seq_len, found.judge.max_tokens) == (2048, 2048, 1536)
    formula = {row.key: row.formula for row in rows}
    assert "65,536" in formula["sft.seq_len"] and "2048" in formula["sft.seq_len"]
    assert start.explain(recipe(tmp_path, base, "[sft]\nseq_len = 8192\n"))[0].sft.seq_len == 8192


def test_what_agrees_may_stand_in_the_recipe_and_the_context_may_differ(base: Path, tmp_path: Path) -> None:
    text = '[model]\nlayers = 4\npattern = "LLLG"\ncontext = 1024\n[sft]\n'
    found = start.explain(recipe(tmp_path, base, text))[0]
    assert (found.model.context, found.sft.seq_len, found.judge.max_tokens) == (1024, 1024, 768)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[model]\nwidth = 64\n", "model.width"),
        ('[model]\npattern = "LG"\n', "model.pattern"),
        ("[model]\ntied = true\n", "model.tied"),
        ("[model.moe]\nexperts = 4\nactive = 2\n", "model.moe"),
        ("[tokenizer]\nvocab = 1000\n", "tokenizer.vocab"),
        ('[release]\nlicence = "MIT"\n', None),
    ],
)
def test_a_key_that_contradicts_the_checkpoint_is_named(text: str, key: str | None, base: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path, base, f"{text}[sft]\n")
    if key is None:  # Apache-2.0 lets what is built from it bear another licence
        assert start.explain(path)[0].release.licence == "MIT"
        return
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        start.explain(path)


def test_a_derivative_of_a_restricted_model_takes_its_licence_and_name(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "nc", licence=NC)
    found = start.explain(recipe(tmp_path, folder, "[sft]\n"))[0]
    assert (found.release.licence, found.release.name) == ("LicenseRef-EXAONE-1.2-NC", "EXAONE-mine")
    assert "No commercial use" in start.sentence(str(folder))
    with pytest.raises(ConfigError, match=r"release\.licence is 'Apache-2.0'"):
        start.explain(recipe(tmp_path, folder, '[sft]\n[release]\nlicence = "Apache-2.0"\n'))


@pytest.mark.parametrize(
    ("break_it", "error", "sentence"),
    [
        (lambda f: f.rename(f.with_name("elsewhere")), DataError, "There is no model at"),
        (lambda f: (f / "model.safetensors").unlink(), CheckpointError, "no .safetensors weights"),
        (lambda f: (f / "tokenizer.json").unlink(), CheckpointError, "no tokenizer.json"),
        (lambda f: (f / "config.json").write_text("{"), CheckpointError, "not JSON"),
    ],
)
def test_what_is_no_checkpoint_is_refused_with_a_sentence(break_it, error, sentence, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model")
    break_it(folder)
    with pytest.raises(error, match=sentence):
        start.explain(recipe(tmp_path, folder, "[sft]\n"))


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", replace(SPEC, vocab=280))
    with pytest.raises(CheckpointError, match=r"has 2\d\d tokens and its model only 280"):
        start.explain(recipe(tmp_path, folder, "[sft]\n"))


def test_lora_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nscale = 2\n[sft]\n[lora]\n')
    with pytest.raises(ConfigError, match=r"\[lora\].*Set init"):
        load_recipe(path)


def test_the_hash_of_every_file_counts_and_readme_does_not(base: Path, tmp_path: Path) -> None:
    before = start.inputs(str(base))
    assert {"init/config.json", "init/model.safetensors", "init/tokenizer.json", "init/licence"} <= set(before)
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\nMore words.\n")
    assert start.inputs(str(base)) == before
    text = (base / "config.json").read_text()
    (base / "config.json").write_text(text + " ")
    try:
        assert start.inputs(str(base))["init/config.json"] != before["init/config.json"]
    finally:
        (base / "config.json").write_text(text)


def test_a_dry_run_tells_of_the_stages_without_touching_anything(base: Path, tmp_path: Path) -> None:
    said: list[str] = []
    build(recipe(tmp_path, base, "[sft]\n"), runs=tmp_path / "runs", dry_run=True, say=said.append)
    assert any(line.startswith("pretrain") and "not in this recipe" in line for line in said)
    assert any(line.startswith("sft") and "would be built" in line for line in said)


# --- a checkpoint that speaks another format ---------------------------------------------------------------------


def in_the_style_of(name: str, folder: Path) -> Path:
    """A checkpoint whose tokenizer is built as those of an EXAONE generation are."""
    checkpoint(folder, replace(SPEC, vocab=600, context=512))
    for file in ("tokenizer_config.json", "chat_template.jinja"):
        (folder / file).unlink(missing_ok=True)
    (folder / "tokenizer.json").write_text(source(name))
    config = json.loads((folder / "config.json").read_text())
    end = Tokenizer(source(name), imported=True).special_id("[|endofturn|]")
    ids = {"bos_token_id": 1, "eos_token_id": [end], "pad_token_id": None}
    (folder / "config.json").write_text(json.dumps({**config, **ids}))
    return folder


TASKS = """
[[corpus.sources]]
kind = "tasks"
name = "tasks"
problems = 40
tasks = ["addsub"]

[sft]
tokens = 2048
seq_len = 256
batch_tokens = 512
compile = false

[judge]
tasks = ["addsub"]
per_cell = 1
max_tokens = 16
budget = 8
"""


def test_sft_of_a_foreign_checkpoint_learns_in_its_own_format(tmp_path: Path) -> None:
    folder = in_the_style_of("exaone4", tmp_path / "model")
    run = build(recipe(tmp_path, folder, TASKS), runs=tmp_path / "runs", until="sft", say=lambda text: None)
    foreign = Tokenizer.load(folder, imported=True)
    shards = ShardSet.open(run / "shards" / "sft" / "tasks")
    ids, loss = shards.document(0), shards.loss(0)
    text = foreign.decode(ids, markers=True)
    assert text.startswith("[|user|]\n") and "[|assistant|]\n<think>\n" in text and "<|user|>" not in text
    learnt = foreign.decode(ids[loss > 0], markers=True)
    assert learnt.endswith("[|endofturn|]") and "[|user|]" not in learnt
    config = json.loads((run / "sft" / "weights" / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"]) == (1, 361)
    assert (run / "sft" / "weights" / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert len(read_metrics(run / "sft" / "metrics.jsonl")) == 4


def test_preference_and_rl_of_a_foreign_checkpoint_are_refused(tmp_path: Path) -> None:
    folder = in_the_style_of("exaone4", tmp_path / "model")
    path = recipe(tmp_path, folder, TASKS + "[rl]\nsteps = 1\n")
    with pytest.raises(ConfigError, match=r"\[rl\].*speaks exaone4"):
        build(path, sets=["sft=none"], runs=tmp_path / "runs", say=lambda text: None)


def test_the_ends_of_documents_are_those_of_the_checkpoint() -> None:
    assert foreign_ids({"text_config": {"bos_token_id": 1}, "eos_token_id": [53, 2]}, Path("x")) == {
        "bos": 1, "eos": 53, "pad": 53,
    }  # fmt: skip
    with pytest.raises(DataError, match="no bos_token_id"):
        foreign_ids({"eos_token_id": 2}, Path("x"))
