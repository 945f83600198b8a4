"""GGUF files behind chat, server and judge: an engine, its facts, packed weights, records."""

import hashlib
import io
import shutil
import sys

import pytest
import torch
from families_small import model, weights
from gguf_small import about, gguf_bytes, plain, vocabulary
from test_qwen2_5 import JINJA

from dokja.cli import chat as chat_verb
from dokja.cli.export import export as export_verb
from dokja.cli.model_path import find_model
from dokja.engine import packed_cache
from dokja.engine.api import Request
from dokja.engine.engine import Engine
from dokja.engine.load import load_engine
from dokja.engine.recommended import Recommended, recommended_in
from dokja.errors import CheckpointError, ConfigError, DataError
from dokja.judge.records import read_records
from dokja.judge.run import judge_model
from dokja.model.families import export
from dokja.model.native.build import load
from dokja.model.spec import ModelSpec
from dokja.serve.facts import Facts
from dokja.serve.worker import load as load_worker
from dokja.text.official.chatml import QWEN2_5

SPEC = ModelSpec(
    vocab=448, width=64, layers=2, heads=2, kv_heads=1, head_dim=32, ffn=96, context=640, pattern="G", norm="pre",
    qk_norm=False, rope="all", qkv_bias=True,
)  # fmt: skip
needs_wide = pytest.mark.skipif(load("pack") is None or load("wide") is None, reason="no C++ compiler")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Nobody's packed weights but this test's."""
    monkeypatch.setenv("DOKJA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packed"


def written(path, seed=0, template=JINJA, **more):
    """A random model of the shape in a file that speaks ChatML, whose answers end now and then."""
    made, words = model(SPEC, seed), vocabulary("qwen2")[1]
    with torch.no_grad():
        made.head[words["tokenizer.ggml.tokens"].index("<|im_end|>")] *= 2
    told = {"tokenizer.chat_template": template} if template else {}
    path.write_bytes(gguf_bytes({**about(SPEC, "qwen2"), **words, **told, **more}, plain(made)))
    return made


def write(engine: Engine) -> list[int]:
    return engine.complete([Request("x", [1, 5, 20, 30], 10, seed=3)])[0].tokens


def test_a_file_gives_an_engine_its_tokenizer_and_its_facts(tmp_path, capsys):
    made = written(tmp_path / "small-q8.gguf")
    engine, tokenizer, info = load_engine(tmp_path / "small-q8.gguf", slots=3)
    assert write(engine) == write(Engine(made))
    assert info["name"] == "small-q8" and info["style"] is QWEN2_5 and info["images"] is None
    assert info["sha256"] == hashlib.sha256((tmp_path / "small-q8.gguf").read_bytes()).hexdigest()
    assert info["template_sha256"] == hashlib.sha256(JINJA.encode()).hexdigest()
    assert ModelSpec.from_dict(info["spec"]) == SPEC
    assert info["sampling"] == Recommended() and "does not say how to draw" in capsys.readouterr().err
    facts = Facts.from_info({**info, "style": info["style"].name, "context": SPEC.context, "sampling": None})
    assert facts.tokenizer.sha256 == tokenizer.sha256
    assert facts.stops == tuple(map(tokenizer.special_id, QWEN2_5.stops))


def test_sampling_is_what_the_file_recommends(tmp_path, capsys):
    advice = {"general.sampling.temp": 0.5, "general.sampling.top_k": 20, "general.sampling.penalty_repeat": 1.5}
    written(tmp_path / "m.gguf", **advice)
    sampling = load_engine(tmp_path / "m.gguf")[2]["sampling"]
    assert sampling == Recommended(temperature=0.5, top_k=20, repetition_penalty=1.5)
    assert capsys.readouterr().err == ""
    assert recommended_in({}) is None and recommended_in({"general.sampling.top_p": 0.5}) == Recommended(top_p=0.5)


@needs_wide
@pytest.mark.parametrize("bits", ["bf16", "int8", "int4"])
def test_a_file_and_the_folder_of_the_same_weights_answer_alike_in_few_bits(bits, tmp_path):
    made = written(tmp_path / "m.gguf")
    want = write(Engine(made, weights=bits))
    for _ in range(2):  # packed, then from the cache
        assert write(load_engine(tmp_path / "m.gguf", weights=bits)[0]) == want


@needs_wide
def test_packed_weights_are_known_by_the_files_sha256_wherever_it_lies(tmp_path, cache, monkeypatch):
    path = tmp_path / "m.gguf"
    written(path)
    first = load_engine(path, weights="int8")
    (tmp_path / "moved").mkdir()
    other = tmp_path / "moved" / "other.gguf"
    shutil.copy(path, other)
    assert len(list(cache.glob("*.safetensors"))) == 1
    with monkeypatch.context() as patched:
        patched.setattr("dokja.engine.load.PackedWeights.read", None)  # nothing is packed again
        again = load_engine(other, weights="int8")
    assert again[2]["sha256"] == first[2]["sha256"] and again[2]["name"] == "other"
    written(path, seed=1)
    third = load_engine(path, weights="int8")
    assert third[2]["sha256"] not in (first[2]["sha256"], "") and len(list(cache.glob("*.safetensors"))) == 2
    assert write(third[0]) != write(first[0])


@needs_wide
def test_a_file_that_changes_while_it_is_packed_is_not_kept(tmp_path, cache, monkeypatch):
    from dokja.engine.packed import PackedWeights

    path, real = tmp_path / "m.gguf", PackedWeights.read
    written(path)

    def slow(*given):
        packed = real(*given)
        written(path, seed=1)
        return packed

    monkeypatch.setattr("dokja.engine.load.PackedWeights.read", slow)
    load_engine(path, weights="int8")
    assert list(cache.glob("*.safetensors")) == []
    assert packed_cache.Source(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_weights_of_a_file_can_be_swapped_into_an_engine(tmp_path):
    first = written(tmp_path / "a.gguf")
    second = written(tmp_path / "b.gguf", seed=1)
    engine = load_engine(tmp_path / "a.gguf")[0]
    assert write(engine) == write(Engine(first))
    engine.load_weights(tmp_path / "b.gguf")
    assert write(engine) == write(Engine(second))


def test_the_verbs_take_a_file_where_they_can(tmp_path):
    written(tmp_path / "m.gguf")
    assert find_model(str(tmp_path / "m.gguf"), files=True) == tmp_path / "m.gguf"
    with pytest.raises(ConfigError, match="is a GGUF file, which dokja chats with"):
        find_model(str(tmp_path / "m.gguf"))
    with pytest.raises(ConfigError, match="is a GGUF file"):
        export_verb(str(tmp_path / "m.gguf"))
    with pytest.raises(ConfigError, match="There is no model"):
        find_model(str(tmp_path / "n.gguf"), files=True)


def test_chat_answers_through_a_pipe(tmp_path, monkeypatch, capsys):
    written(tmp_path / "m.gguf")
    monkeypatch.setattr(sys, "stdin", io.StringIO("안녕하세요\n/think\nmore\n"))
    chat_verb.chat(str(tmp_path / "m.gguf"), max_tokens=6, runs=tmp_path, language="en")
    out, err = capsys.readouterr()
    assert out and "does not say how to draw" in err


@needs_wide
def test_the_servers_engine_process_loads_a_file(tmp_path):
    written(tmp_path / "m.gguf")
    options = {"slots": 2, "weights": "int8"}
    _, told = load_worker({"kind": "model", "path": str(tmp_path / "m.gguf"), "options": options}, 0)
    assert told["style"] == "qwen2.5" and told["context"] == 640 and told["images"] is None
    assert Facts.from_info(told).tokenizer.sha256 == told["tokenizer_sha256"]


def test_judge_keeps_records_beside_the_file_with_its_hash(tmp_path):
    written(tmp_path / "m.gguf")
    judged = judge_model(tmp_path / "m.gguf", tasks=("addsub",), per_cell=1, max_tokens=4, batch=4)
    assert judged.folder.parent == tmp_path and judged.folder.name.startswith("m-judge-")
    records = read_records(judged.folder)
    sha256 = hashlib.sha256((tmp_path / "m.gguf").read_bytes()).hexdigest()
    assert records and {r.model_sha256 for r in records} == {sha256} and {r.mode for r in records} == {"direct"}


def test_a_template_or_a_file_that_is_not_understood_is_refused(tmp_path):
    written(tmp_path / "m.gguf", template=JINJA.replace("<|im_end|>\\n' -}}", "<|im_end|>' -}}"))
    with pytest.raises(DataError, match="will not guess"):
        load_engine(tmp_path / "m.gguf")
    whole = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="truncated"):
        load_engine(tmp_path / "m.gguf")


def test_a_folder_of_qwen2_speaks_by_its_template(tmp_path):
    made = model(SPEC)
    export(SPEC, weights(made), tmp_path, {"eos": 1})
    (tmp_path / "tokenizer.json").write_text(vocabulary("qwen2")[0], encoding="utf-8")
    with pytest.raises(DataError, match="no chat template"):
        load_engine(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(JINJA)
    engine, _, info = load_engine(tmp_path)
    assert info["style"] is QWEN2_5 and write(engine) == write(Engine(made))
