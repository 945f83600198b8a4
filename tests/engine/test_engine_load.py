"""From a path to an engine, and the sentences where there is none."""

import hashlib
import os

import pytest
import torch
from engine_small import model

from dokja.engine.api import Request
from dokja.engine.engine import Engine
from dokja.engine.load import find_folder, load_engine
from dokja.errors import CheckpointError, DataError, DokjaError
from dokja.model.families import export
from dokja.text.template import JINJA
from dokja.text.tokenizer import train_tokenizer

TOKENIZER = train_tokenizer(["a word or two and a word more"] * 3, 270)
VOCAB = 272
SPECIAL = {"bos": 1, "eos": 2, "pad": 0}


def decoder(seed: int = 0, **changes):
    return model(seed, vocab=VOCAB, **changes)


def release(folder, made, age: int = 0):
    """A release folder whose files are `age` seconds old."""
    export(made.spec, dict(made.named_parameters()), folder, SPECIAL)
    TOKENIZER.save(folder)
    then = 1_700_000_000 - age
    os.utime(folder / "model.safetensors", (then, then))
    return folder


def write(engine: Engine) -> list[int]:
    return engine.complete([Request("x", [1, 5, 20, 30], 10, seed=3)])[0].tokens


def test_a_release_folder_gives_an_engine_its_tokenizer_and_its_facts(tmp_path):
    made = decoder()
    folder = release(tmp_path / "mine-1.0", made)
    engine, tokenizer, info = load_engine(folder, slots=3)
    assert write(engine) == write(Engine(made))
    assert tokenizer.sha256 == TOKENIZER.sha256 and engine.stats()["slots"] == 3
    assert info["name"] == "mine-1.0" and info["spec"] == made.spec.to_dict()
    assert info["sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert info["template_sha256"] == hashlib.sha256(JINJA.encode()).hexdigest()
    (folder / "chat_template.jinja").write_text("other")
    assert load_engine(folder)[2]["template_sha256"] == hashlib.sha256(b"other").hexdigest()


def test_a_run_gives_its_newest_release_else_its_newest_stage(tmp_path):
    run = tmp_path / "run"
    release(run / "pretrain" / "weights", decoder(), age=10)
    sft = release(run / "sft" / "weights", decoder(1), age=5)
    assert find_folder(run) == sft
    assert find_folder(run / "pretrain") == run / "pretrain" / "weights"
    assert load_engine(run)[2]["name"] == "run/sft"
    (run / "rl" / "weights").mkdir(parents=True)
    (run / "rl" / "weights" / "config.json").write_text("{}")  # no weights beside it yet
    release(run / "dpo" / "weights.partial", decoder(), age=1)
    assert find_folder(run) == sft
    older = release(run / "release" / "a", decoder(), age=100)
    assert find_folder(run) == older
    newer = release(run / "release" / "b", decoder(), age=50)
    assert find_folder(run) == newer


def test_a_path_without_a_model_is_refused_with_a_sentence(tmp_path):
    with pytest.raises(DataError, match="no model at"):
        load_engine(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no model yet.*dokja build"):
        load_engine(tmp_path)
    folder = release(tmp_path / "m", decoder())
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"no \.safetensors"):
        load_engine(folder)


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path):
    small = model(vocab=TOKENIZER.vocab_size - 1)
    with pytest.raises(CheckpointError, match="do not belong together"):
        load_engine(release(tmp_path / "m", small))
    (tmp_path / "m" / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        load_engine(release(tmp_path / "n", decoder()).parent / "m")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_new_weights_of_the_same_shape_are_taken_and_others_refused(tmp_path, dtype):
    engine, other = Engine(decoder(), dtype=dtype), decoder(1)
    first = write(engine)
    engine.load_weights(release(tmp_path / "m", other))
    assert write(engine) == write(Engine(other, dtype=dtype)) != first
    with pytest.raises(CheckpointError, match="another shape"):
        engine.load_weights(release(tmp_path / "w", decoder(window=4)))
    engine.submit(Request("busy", [1], 5))
    with pytest.raises(DokjaError, match="running requests"):
        engine.load_weights(tmp_path / "m")


def test_the_interface_needs_no_torch():
    import subprocess
    import sys

    code = "import sys, dokja.engine.api; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
