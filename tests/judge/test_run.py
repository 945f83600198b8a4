import json

import pytest

from dokja.judge.records import read_records
from dokja.judge.run import judge_model
from dokja.judge.suite import build_suite, needs_steps, suite_hash
from dokja.model.decoder import Decoder
from dokja.model.families import export
from dokja.model.spec import ModelSpec
from dokja.text.chat import BOS, END, PAD
from dokja.text.tokenizer import train_tokenizer

FAMILIES = ("addsub", "reverse")
SETTINGS = {"tasks": FAMILIES, "per_cell": 1, "max_tokens": 12, "budget": 6, "batch": 16}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Random weights in the release layout."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer([p.prompt for p in build_suite(FAMILIES, 5).problems], vocab=320)
    spec = ModelSpec(
        vocab=tokenizer.vocab_size, pattern="LG", layers=2, width=32, heads=2, kv_heads=1, head_dim=16, ffn=64,
        window=32, context=256,
    )  # fmt: skip
    ids = {"bos": tokenizer.special_id(BOS), "eos": tokenizer.special_id(END), "pad": tokenizer.special_id(PAD)}
    export(spec, dict(Decoder(spec).init_weights(0).named_parameters()), folder, ids)
    tokenizer.save(folder)
    return folder


def without_times(records):
    return [{k: v for k, v in r.__dict__.items() if k != "seconds"} for r in records]


def test_a_model_is_judged_with_the_real_engine_and_every_budget_is_kept(release, tmp_path):
    judged = judge_model(release, out=tmp_path, name="noise", **SETTINGS)
    suite = build_suite(FAMILIES, 1)
    assert len(judged.records) == 2 * len(suite.problems) > 0
    assert [r.problem_id for r in judged.records[: len(suite.problems)]] == [p.id for p in suite.problems]
    for r in judged.records:
        assert r.model == "noise" and r.usage.completion_tokens <= 12 and r.usage.prompt_tokens > 4
        assert r.usage.reasoning_tokens <= 6
        assert not r.forced or (r.mode == "think" and "</think>" in r.raw)
    assert any(r.forced for r in judged.records)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["settings"]["suite_sha256"] == suite.sha256 and summary["headline"]["answers"] == len(judged.records)


def test_answers_do_not_depend_on_batch_mates_nor_on_being_resumed(release, tmp_path):
    sampled = {**SETTINGS, "temperature": 1.0}
    straight = judge_model(release, out=tmp_path / "a", **sampled)
    alone = judge_model(release, out=tmp_path / "b", **{**sampled, "batch": 3})
    assert without_times(straight.records) == without_times(alone.records)
    path = tmp_path / "b" / "records.jsonl"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    resumed = judge_model(release, out=tmp_path / "b", **sampled)
    assert without_times(resumed.records) == without_times(straight.records) == without_times(read_records(path))


def test_suites_have_an_identity_and_a_folder_of_their_own(release):
    assert build_suite(FAMILIES, 1) == build_suite(FAMILIES, 1)
    hashes = {build_suite(FAMILIES, 1, seed=s).sha256 for s in range(3)} | {build_suite(FAMILIES, 2).sha256}
    assert len(hashes) == 4 and suite_hash([]) not in hashes
    first = judge_model(release, modes=["direct"], **SETTINGS)
    assert first.folder == release / f"judge-{build_suite(FAMILIES, 1).short}"
    assert needs_steps() >= {r.task for r in first.records if r.task == "addsub"}
