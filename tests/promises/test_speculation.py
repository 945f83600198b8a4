"""Promise 6: what a released model writes with drafts of its own is what it writes without, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import small_road as small

from dokja.engine.api import Completion, Request
from dokja.engine.engine import Engine
from dokja.engine.load import load_decoder, load_engine
from dokja.ledger.metrics import read_metrics
from dokja.tasks.registry import get_tasks
from dokja.tasks.splits import LANGUAGES, eval_set
from dokja.text.chat import END, THINK_END, render
from dokja.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small road up to SFT, with a head that predicts two tokens ahead."""
    folder = tmp_path_factory.mktemp("mtp")
    text = small.RECIPE.split("[preference]")[0].replace("window = 32 }", "window = 32, mtp = { window = 32 } }")
    assert "mtp" in text
    (folder / "recipe.toml").write_text(text)
    code, said = small.build(folder / "recipe.toml", folder / "runs")
    assert code == 0, said
    return folder / "runs" / "small"


def ask(tokenizer: Tokenizer) -> list[Request]:
    """Problems in both languages and modes, greedy and drawn, some with a budget that runs out."""
    requests = []
    for i, problem in enumerate(eval_set(get_tasks(("addsub", "bits", "sum")), 1, LANGUAGES, 0)[:24]):
        thinking = i % 2 == 0
        ids, _ = tokenizer.encode_segments(render(problem.messages, thinking=thinking, add_generation_prompt=True))
        close = (tokenizer.special_id(THINK_END),) if thinking else ()
        requests.append(
            Request(
                str(i), ids, 48, temperature=(0.0, 1.0, 0.7)[i % 3], top_p=(1.0, 0.9)[i % 2], seed=i,
                stop=(tokenizer.special_id(END),), think_budget=20 if close else None, think_close=close,
            )
        )  # fmt: skip
    return requests


def same(got: Sequence[Completion], want: Sequence[Completion]) -> bool:
    return [(a.id, a.tokens, a.finish, a.forced) for a in got] == [(b.id, b.tokens, b.finish, b.forced) for b in want]


def test_a_released_model_writes_the_same_with_drafts_and_without(run: Path) -> None:
    engine, tokenizer, info = load_engine(run / "release", slots=7)
    assert info["spec"]["mtp"] == {"window": 32, "rope": True}
    requests = ask(tokenizer)
    plain = engine.complete(requests)
    for draft in (1, 2, 4):
        drafting, _, _ = load_engine(run / "release", slots=5, draft=draft)
        answers = drafting.complete(requests)
        assert same(answers, plain)
        if engine._forward._native is not None:
            assert [a.logprobs for a in answers] == [a.logprobs for a in plain]
        stats = drafting.stats()
        print(f"{draft} drafts a step: {stats['acceptance']:.0%} accepted")
        assert stats["accepted"] > 0


def test_so_it_does_through_torch(run: Path) -> None:
    model = load_decoder(run / "release")
    requests = ask(Tokenizer.load(run / "release"))
    engines = [Engine(model, slots=5, draft=draft) for draft in (0, 3)]
    for engine in engines:
        engine._forward._native = None
    assert same(*(engine.complete(requests) for engine in engines))


def test_every_step_tells_the_loss_two_ahead_and_it_falls(run: Path) -> None:
    rows = read_metrics(run / "pretrain" / "metrics.jsonl")
    assert all("mtp_nats" in row for row in rows)
    assert rows[-1]["mtp_nats"] < 0.8 * rows[0]["mtp_nats"]
