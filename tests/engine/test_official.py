"""Folders as EXAONE's makers publish them: their tokenizer, template, stop token, mode and sampling, end to end."""

import json

import numpy as np
import pytest
import torch
from families_small import model, weights
from official_small import SPECIALS, source, tokenizer

from dokja.cli import chat as chat_verb
from dokja.cli.session import Sampling, Session
from dokja.engine.answers import closing_ids, encode_prompt, read_answer, stop_ids
from dokja.engine.api import Completion
from dokja.engine.load import load_engine
from dokja.engine.recommended import Recommended, read_recommended
from dokja.errors import ConfigError, DataError, DokjaError
from dokja.judge.run import judge_model
from dokja.model.families import export
from dokja.model.spec import ModelSpec, MoeSpec, VisionSpec
from dokja.text.chat import Message
from dokja.text.images import ImageConfig
from dokja.text.styles import STYLES

SIZE = dict(vocab=576, width=32, layers=4, heads=4, kv_heads=2, head_dim=8, ffn=40, context=640)
LOCAL = dict(pattern="LLLG", window=8)
LLAMA = dict(pattern="G", norm="pre", qk_norm=False, rope="all")
TOWER = VisionSpec(layers=2, width=16, heads=4, kv_heads=2, ffn=24, full=(1,), image_token=67, video_token=68)
SHAPES = {
    "exaone3.5": dict(LLAMA, tied=True),
    "deep": LLAMA,
    "exaone4": LOCAL,
    "k": dict(LOCAL, norm="pre", moe=MoeSpec(4, 2, 16)),
    "k2": dict(norm="pre", window=(0, 9, 8, 8), clamp=(0.0, 0.0, 0.5, 0.5), moe=MoeSpec(4, 2, 16, dense=2)),
}
STOP = {name: SPECIALS[name][STYLES[name].stops[0]] for name in SHAPES}
ADVICE = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "presence_penalty": 1.5}


def checkpoint(folder, name, shape):
    """A small random model of a family, its folder filled as the official ones are."""
    spec = ModelSpec(**SIZE, **shape)
    ids = {"bos": 1, "eos": STOP[name], "pad": 0}
    made = model(spec)
    with torch.no_grad():  # the stop token wins now and then, so that answers end
        (made.embed if spec.tied else made.head)[STOP[name]] *= 2
    export(spec, weights(made), folder, ids)
    (folder / "tokenizer.json").write_text(source(name), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(f"the template of {name}")
    (folder / "generation_config.json").write_text(json.dumps(ADVICE))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {n: checkpoint(tmp_path_factory.mktemp(n), n, shape) for n, shape in SHAPES.items()}
    (made["exaone3.5"] / "generation_config.json").unlink()
    return made


EACH = pytest.mark.parametrize("name", list(SHAPES))


@EACH
def test_a_conversation_with_an_imported_model(folders, name):
    engine, read, info = load_engine(folders[name])
    style = info["style"]
    assert style is STYLES[name] and read.foreign
    session = Session(engine, read, info["spec"]["context"], Sampling(40, 1.0, seed=1), style=style)
    assert session.thinking == style.thinking
    for ask in ("안녕? 12", "again"):
        deltas = list(session.ask(ask))
        said = session.messages[-1]
        assert "".join(d.text for d in deltas if d.kind == "content") == said.content
        assert "".join(d.text for d in deltas if d.kind == "reasoning") == (said.reasoning or "")
        assert said.reasoning is None or style.thinking
    prompt = encode_prompt(session.messages[:-1], read, None, style.thinking, style)[0]
    want = tokenizer(name).encode_segments(style.render(session.messages[:-1], add_generation_prompt=True))[0]
    assert prompt == want
    assert session._request(prompt, ()).stop == (STOP[name],) == stop_ids(style, read)


@EACH
def test_the_judge_asks_in_the_modes_the_family_knows(folders, name, tmp_path):
    style = STYLES[name]
    judged = judge_model(folders[name], tasks=("addsub",), languages=("ko",), per_cell=1, max_tokens=12, out=tmp_path)
    assert {r.mode for r in judged.records} == set(style.modes)
    assert {r.template_sha256 for r in judged.records} == {style.sha256}
    sampled = {(r.sampling.temperature, r.sampling.top_p, r.sampling.top_k) for r in judged.records}
    assert sampled == {(0.0, 1.0, 0) if name == "exaone3.5" else (0.6, 0.95, 20)}
    for r in judged.records:
        assert r.usage.reasoning_tokens <= r.usage.completion_tokens <= 12
        assert not r.reasoning or r.reasoning not in r.answer
        assert r.mode == "think" or not r.reasoning
    if len(style.modes) == 1:
        other = "think" if style.modes == ("direct",) else "direct"
        with pytest.raises(ConfigError, match=f"cannot answer in the mode {other}"):
            judge_model(folders[name], tasks=("addsub",), per_cell=1, modes=(other,), out=tmp_path / "x")


@pytest.mark.parametrize("name", ["exaone4", "k", "k2", "deep"])
def test_a_budget_closes_the_thought_as_the_format_does(folders, name, tmp_path):
    judged = judge_model(
        folders[name], tasks=("addsub",), languages=("ko",), per_cell=1, modes=("think",), max_tokens=24, budget=6,
        temperature=0.0, out=tmp_path,
    )  # fmt: skip
    forced = [r for r in judged.records if r.forced]
    assert forced and all("\n" + STYLES[name].thought[1] in r.raw for r in forced)
    assert all(r.usage.reasoning_tokens <= 6 + len(closing_ids(STYLES[name], tokenizer(name))) for r in forced)


def test_a_budget_without_a_closing_token_is_refused_with_a_sentence():
    with pytest.raises(DokjaError, match="Leave the budget out"):
        closing_ids(STYLES["deep"], tokenizer("exaone3.5"))
    with pytest.raises(DokjaError, match="Leave the budget out"):
        closing_ids(STYLES["exaone3.5"], tokenizer("exaone3.5"))


def test_an_image_stands_where_4_5_expects_it(tmp_path):
    folder = checkpoint(tmp_path, "k", dict(LOCAL, vision=TOWER))
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2, "min_pixels": 784, "max_pixels": 9000})
    )
    engine, read, info = load_engine(folder)
    assert isinstance(info["images"], ImageConfig)
    session = Session(engine, read, 640, Sampling(8), style=info["style"], images=info["images"])
    session.pending.append(np.zeros((56, 84, 3), dtype=np.uint8))
    list(session.ask("무엇?"))
    prompt, shown = encode_prompt(session.messages[:1], read, info["images"], True, info["style"])
    start = prompt.index(SPECIALS["k"]["<vision>"])
    assert prompt[start : start + 8] == [73, *[67] * 6, 74] and len(shown) == 1
    with pytest.raises(DataError, match="text alone"):
        encode_prompt(session.messages[:1], read, None, True, info["style"])


def test_answers_are_read_as_the_family_writes_them():
    read, style = tokenizer("k2"), STYLES["k2"]
    said = Message("assistant", "답", "생각")
    ids, loss = read.encode_segments(style.render([Message("user", "?"), said]))
    tokens = [i for i, own in zip(ids, loss, strict=True) if own]
    got = read_answer(Completion("x", tokens, [0.0] * len(tokens), "stop", False, 3), read, "think", style)
    assert (got.content, got.reasoning, got.wrong_mode) == ("답", "생각", False)
    assert got.reasoning_tokens == tokens.index(read.special_id("</think>"))
    assert read_answer(Completion("x", tokens, [], "stop", False, 3), read, "direct", style).wrong_mode


@EACH
def test_the_terminal_speaks_with_it(folders, name, monkeypatch, capsys):
    def asked(session, language, thoughts):
        print(session.style.name, session.thinking, session.sampling)
        print(chat_verb.command(session, "/no_think", "en"), chat_verb.command(session, "/think", "en"))

    monkeypatch.setattr(chat_verb, "pipe", asked)
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115
    settings = dict(think=None, thoughts=False, system=None, max_tokens=9, temperature=None, top_p=None, seed=0)
    chat_verb.chat(str(folders[name]), **settings, budget=None, language="en", runs=folders[name])
    out, err = capsys.readouterr()
    style = STYLES[name]
    advised = Sampling(9, 0.0) if name == "exaone3.5" else Sampling(9, 0.6, 0.95, top_k=20, presence_penalty=1.5)
    assert out.splitlines()[0] == f"{name} {style.thinking} {advised}"
    assert ("only one mode" in out) == (len(style.modes) == 1)
    assert not err


def test_recommendations_are_read_as_transformers_reads_them(tmp_path):
    path = tmp_path / "generation_config.json"
    assert read_recommended(tmp_path) == Recommended()
    for raw, want in (
        ({"do_sample": False, "temperature": 0.6}, Recommended()),
        ({"temperature": 0.6}, Recommended(0.6)),
        ({"do_sample": True, "top_p": 0.9}, Recommended(1.0, 0.9)),
        ({"repetition_penalty": 1.0, "presence_penalty": None}, Recommended()),
        ({"repetition_penalty": 1.1, "min_p": 0.05}, Recommended(min_p=0.05, repetition_penalty=1.1)),
    ):
        path.write_text(json.dumps(raw))
        assert read_recommended(tmp_path) == want
    path.write_text("[]")
    with pytest.raises(DataError, match="cannot be read"):
        read_recommended(tmp_path)
