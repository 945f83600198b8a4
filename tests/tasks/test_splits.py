"""Training and evaluation never meet, and nothing depends on the process."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from itertools import islice

import pytest

from dokja.errors import ConfigError, DataError
from dokja.tasks.registry import get_tasks
from dokja.tasks.splits import EVAL_SEEDS, TRAIN_SEEDS, eval_set, prompt_key, prompt_keys, train_stream
from dokja.tasks.textbook import documents


def seed_of(problem):
    return int(problem.id.rsplit("/", 1)[1])


def test_seed_ranges_and_prompts_are_disjoint():
    held_out = eval_set(get_tasks(), 20)
    keys = prompt_keys(held_out)
    assert len(keys) == len(held_out)  # distinct among themselves
    trained = list(train_stream(get_tasks(), 12_000, seed=0, exclude=keys))
    assert not keys & prompt_keys(trained)
    assert all(seed_of(p) in EVAL_SEEDS for p in held_out) and all(seed_of(p) in TRAIN_SEEDS for p in trained)


def test_prompts_given_to_either_side_are_kept_out_of_it():
    tasks = get_tasks(["clock"])
    first = eval_set(tasks, 50, levels=[1])
    second = eval_set(tasks, 50, levels=[1], exclude=prompt_keys(first))
    assert len(second) == len(first) and not prompt_keys(first) & prompt_keys(second)
    # An unfiltered stream over the same small cell does meet the held-out prompts: the filter is what keeps them out.
    assert prompt_keys(first) & prompt_keys(list(train_stream(tasks, 6000, 0, levels=[1])))
    assert not prompt_keys(first) & prompt_keys(list(train_stream(tasks, 6000, 0, prompt_keys(first), levels=[1])))


def test_cells_are_balanced():
    per_cell = Counter((p.task, p.level, p.language) for p in eval_set(get_tasks(), 3))
    assert set(per_cell.values()) == {3} and len(per_cell) == 2 * sum(len(t.levels) for t in get_tasks())
    trained = list(train_stream(get_tasks(), 24 * 12, seed=3))
    assert set(Counter((p.task, p.language) for p in trained).values()) == {12}
    assert set(Counter(p.level for p in trained if p.task == "sum").values()) == {8}


def test_a_shorter_stream_is_a_prefix_and_seeds_differ():
    tasks = get_tasks(["sum", "hops"])
    long = list(train_stream(tasks, 50, seed=1))
    assert list(train_stream(tasks, 20, seed=1)) == long[:20]
    assert list(train_stream(tasks, 50, seed=2)) != long
    assert list(islice(train_stream(tasks, 10**9, seed=1), 5)) == long[:5]


def test_eval_cells_do_not_depend_on_other_tasks():
    alone = eval_set(get_tasks(["bits"]), 5)
    assert [p for p in eval_set(get_tasks(), 5) if p.task == "bits"] == alone
    assert eval_set(get_tasks(["bits"]), 5, seed=1) != alone


def test_an_exhausted_cell_says_so():
    with pytest.raises(DataError, match="clock"):
        eval_set(get_tasks(["clock"]), 20_000, languages=["en"], levels=[1])
    with pytest.raises(ConfigError, match="levels"):
        next(train_stream(get_tasks(), 1, 0, levels=[9]))
    with pytest.raises(ConfigError, match="ko, en"):
        eval_set(get_tasks(), 1, languages=["fr"])


def test_prompt_keys_ignore_spaces_and_composition():
    assert prompt_key("3 + 4는?") == prompt_key(unicodedata.normalize("NFD", "3+4는 ?\n"))
    assert prompt_key("3+4") != prompt_key("3+5")


DIGEST = """
import hashlib
from dokja.tasks.registry import get_tasks
from dokja.tasks.splits import eval_set, train_stream
rows = [repr(p) for p in [*eval_set(get_tasks(), 2), *train_stream(get_tasks(), 200, 5)]]
print(hashlib.sha256("\\n".join(rows).encode()).hexdigest())
"""


def test_output_does_not_depend_on_the_hash_seed():
    runs = [
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            env={**os.environ, "PYTHONHASHSEED": str(s), "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for s in (1, 2)
    ]
    rows = [repr(p) for p in [*eval_set(get_tasks(), 2), *train_stream(get_tasks(), 200, 5)]]
    here = hashlib.sha256("\n".join(rows).encode()).hexdigest()
    assert runs[0].strip() == runs[1].strip() == here


def test_the_room_needs_no_torch():
    code = (
        "import sys, dokja.tasks.registry, dokja.tasks.splits, dokja.tasks.textbook; assert 'torch' not in sys.modules"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)


def test_documents_hold_question_and_answer_and_mostly_the_steps():
    rng = random.Random(0)
    problems = list(train_stream(get_tasks(), 400, 0))
    texts = [documents(p, rng) for p in problems]
    for p, (text,) in zip(problems, texts, strict=True):
        assert text.startswith(("문", "Q", p.prompt)) and p.prompt in text and text.endswith(p.reference)
    share = sum(p.trace in t for p, (t,) in zip(problems, texts, strict=True)) / len(texts)
    assert 0.65 < share < 0.9
    assert texts == [documents(p, r) for r in [random.Random(0)] for p in problems]


def test_speed_is_printed():
    start = time.perf_counter()
    count = sum(1 for _ in train_stream(get_tasks(), 5000, 0))
    print(f"train_stream: {count / (time.perf_counter() - start):,.0f} problems/s")
    assert count == 5000
