"""Promises 7 and 10: a release means the same to others as to us."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small_road as small
import torch


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole small road, judged and released."""
    folder = tmp_path_factory.mktemp("whole")
    code, text = small.build(small.write_recipe(folder), folder / "runs")
    assert code == 0, text
    return folder / "runs" / "small"


def test_release_loads_in_transformers_with_equal_logits(run: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from dokja.model.families import load_model

    theirs = AutoModelForCausalLM.from_pretrained(run / "release", dtype=torch.float32).eval()
    ours = load_model(run / "release")
    tokens = torch.randint(11, ours.spec.vocab, (2, 100), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = (theirs(tokens).logits - ours(tokens)).abs().max().item()
    print(f"max abs difference of logits: {difference:.2e}")
    assert difference <= 1e-4
    tokenizer = AutoTokenizer.from_pretrained(run / "release")
    assert len(tokenizer) == ours.spec.vocab


def test_exported_template_renders_our_bytes(run: Path) -> None:
    from transformers import AutoTokenizer

    from dokja.text.chat import Message, render, text_of

    tokenizer = AutoTokenizer.from_pretrained(run / "release")
    for n, question in enumerate(["안녕?", "2+3=?", "a\n\nb", "{{x}} {% y %}", '"q"', "😀", "", " 끝 "]):
        answer = Message("assistant", f"답 {n}", reasoning=f"생각 {n}")
        turns = [Message("user", question), answer, Message("user", "?")]
        for thinking in (True, False):
            mine = text_of(render(turns, thinking=thinking, add_generation_prompt=True))
            plain = [{"role": m.role, "content": m.content, "reasoning_content": m.reasoning} for m in turns]
            theirs = tokenizer.apply_chat_template(
                plain, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
            )
            assert theirs == mine


def test_every_promised_file_is_there_and_the_ledger_holds(run: Path) -> None:
    from dokja.ledger import chain

    release = {p.name for p in (run / "release").iterdir()}
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "README.md", "records.jsonl", "ledger.jsonl"}
    assert wanted <= release
    assert chain.verify(run) == []
    stages = [e["stage"] for e in chain.read_chain(run) if e["kind"] == "stage"]
    assert stages == ["corpus", "tokenizer", "shards", "pretrain", "sft", "preference", "rl", "judge", "release"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script" not in page


def test_ledger_totals_are_the_analytic_flops(run: Path) -> None:
    from dokja.model.families import load_model

    spec = load_model(run / "release").spec
    for stage in ("pretrain", "sft"):
        cost = json.loads((run / stage / "manifest.json").read_text())["cost"]
        assert cost["flops_6nd"] == 6 * spec.active_params * cost["tokens"]
        assert cost["flops_attention"] > 0


def test_the_same_command_again_changes_nothing(run: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*.safetensors")}
    code, text = small.build(run.parent.parent / "recipe.toml", run.parent)
    assert code == 0 and text.count("finished before") == 9, text
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*.safetensors")} == before
