"""The pool of RL: problems solved every time are left out, and a pool once sampled is not sampled again."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from dokja.errors import DataError
from dokja.ledger.progress import Progress
from dokja.road import rl
from dokja.train.rollouts import sampling
from dokja.train.rollouts.record import Rollout

ARMS = {"think": [("addsub", 1), ("bits", 1)], "direct": [("bits", 1)]}


def scored(right_of_eight):
    """In place of `sampling.sample`: answers to a task are right this many times of eight."""

    def sample(engine, tokenizer, asked, answers, c, *, seed, step=0, first=0):
        groups = []
        for group, (p, mode) in enumerate(asked, first):
            row = dict(task=p.task, problem_id=p.id, level=p.level, language=p.language, mode=mode, prompt=p.prompt,
                       reference=p.reference, prompt_tokens=[1], tokens=[2], logprobs=[-1.0], finish="stop",
                       forced=False, forced_at=-1, reasoning="", answer="", reasoning_tokens=0, wrong_mode=False,
                       reason="", detail="", step=step, group=group)  # fmt: skip
            right = right_of_eight[p.task]
            groups.append([Rollout(**row, sample=n, score=float(n < right)) for n in range(answers)])
        return groups

    return sample


def pool(tmp_path: Path):
    said: list[str] = []
    context = SimpleNamespace(say=said.append, progress=lambda total, label: Progress(total, label))
    start = SimpleNamespace(config=SimpleNamespace(pool=40, prefilter=8), tokenizer=None, before=tmp_path)
    usable, draw = rl._pool(context, tmp_path, start, None, ARMS, set(), seed=3)
    return usable, draw, said


def test_problems_right_eight_times_of_eight_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "sample", scored({"addsub": 8, "bits": 7}))
    usable, draw, said = pool(tmp_path)
    assert usable == {"think": [("bits", 1)], "direct": [("bits", 1)]}
    assert "40 problems in the pool, 10 left out" in said[-1]
    drawn = {draw("think", ("bits", 1), "ko", n).id for n in range(50)}
    assert len(drawn) == 5 and all(name.startswith("bits/1/ko") for name in drawn)


def test_a_pool_is_sampled_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "sample", scored({"addsub": 8, "bits": 7}))
    before = pool(tmp_path)[0]
    monkeypatch.setattr(sampling, "sample", None)
    assert pool(tmp_path)[0] == before


def test_a_pool_without_anything_to_learn_says_what_to_change(tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "sample", scored({"addsub": 8, "bits": 8}))
    with pytest.raises(DataError, match="prefilter = 0"):
        pool(tmp_path)
