"""Promises 8 and 11: trainer and engine agree on what was sampled; reward rises where there is something to learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import toy_rl as toy

from dokja.recipe.algorithms import ALGORITHMS
from dokja.tasks import registry
from dokja.train.compiled import Runner
from dokja.train.rollouts.record import read_rollouts


@pytest.fixture(params=[False, True], ids=["learnable", "random labels"])
def task(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> toy.LetterTask:
    made = toy.LetterTask(random_labels=request.param)
    monkeypatch.setitem(registry.LOADED, "letter", made)
    return made


@pytest.mark.parametrize("algorithm", ["agapo_token", "grpo"])
def test_reward_rises_on_a_learnable_task_and_stays_flat_on_random_labels(
    algorithm: str, task: toy.LetterTask, tmp_path: Path
) -> None:
    rows = toy.run(toy.config(algorithm=algorithm), task, tmp_path)
    first = np.mean([r["accuracy"] for r in rows[:3]])
    last = np.mean([r["accuracy"] for r in rows[-10:]])
    if task.random_labels:  # 240 questions of 8 answers: one answer for all of them is right for half
        assert 0.4 < first < 0.6 and 0.4 < last < 0.6, (first, last)
    else:
        assert first < 0.5 and last > 0.9, (first, last)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_algorithm_trains_and_its_trainer_agrees_with_its_engine(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = toy.LetterTask(random_labels=False)
    monkeypatch.setitem(registry.LOADED, "letter", task)
    rows = toy.run(toy.config(algorithm=algorithm, steps=3, prompts=12, kl_beta=0.0, rounds=1), task, tmp_path)
    assert [r["step"] for r in rows] == [1, 2, 3]
    assert all(r["mismatch_kl"] < 1e-6 and r["mismatch_max"] < 1e-4 for r in rows)
    assert any(r["grad_norm"] > 0 for r in rows)


def test_a_stored_round_can_be_trained_on_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the stored rollouts and the same weights come the same advantages and the same log-probabilities."""
    task = toy.LetterTask(random_labels=False)
    monkeypatch.setitem(registry.LOADED, "letter", task)
    c, model = toy.config(drop="all"), toy.new_model()
    source = toy.source_of(c, model, task, tmp_path)
    (batch,) = source.round(0)
    stored = list(read_rollouts(tmp_path / "rollouts" / "step_00000000.jsonl.zst"))
    groups = [stored[at : at + c.group] for at in range(0, len(stored), c.group)]
    (again,) = source._updates(groups, {})
    np.testing.assert_array_equal(again.tokens_BL, batch.tokens_BL)
    np.testing.assert_array_equal(again.old_BL, batch.old_BL)
    np.testing.assert_array_equal(again.of_sequence["advantage"], batch.of_sequence["advantage"])
    import torch

    runner = Runner(model, torch.float32, compile=False, rows=toy.ROWS)
    for at in range(0, len(again.tokens_BL), toy.ROWS):
        part = slice(at, at + toy.ROWS)
        logp = runner.logp(again.tokens_BL[part], again.docs_BL[part], again.targets_BL[part]).numpy()
        here = again.targets_BL[part].reshape(-1) >= 0
        np.testing.assert_allclose(logp[here], again.old_BL[part].reshape(-1)[here], atol=2e-5)


def test_updates_share_a_round_and_the_later_ones_are_off_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = toy.LetterTask(random_labels=False)
    monkeypatch.setitem(registry.LOADED, "letter", task)
    rows = toy.run(toy.config(algorithm="dapo", updates=2, steps=4), task, tmp_path)
    assert ["mismatch_kl" in r for r in rows] == [True, False, True, False]
    assert all(r["policy_kl"] > 1e-6 for r in rows[1::2])
    assert len(list((tmp_path / "rollouts").glob("*.zst"))) == 2
