"""Preference data in two stages: what counts as better, and batches that are a pure function of the step."""

from types import SimpleNamespace

import numpy as np
import pytest

from dokja.recipe.algorithms import PREFERENCES
from dokja.text.chat import END, SPECIALS, THINK_END
from dokja.train.rollouts.pairs import PairSource, best_answer, shortest_right, units
from dokja.train.rollouts.record import Rollout

CLOSE, STOP = SPECIALS.index(THINK_END), SPECIALS.index(END)


def answer(score, thought=4, group=0, sample=0, text="7", **changes):
    """An answer whose thought has `thought` tokens."""
    tokens = [*range(100, 100 + thought), CLOSE, 200, STOP]
    base = dict(
        step=0, group=group, sample=sample, task="sum", problem_id=f"p{group}", level=1, language="en", mode="think",
        prompt="3+4", reference="7", prompt_tokens=[11, 12, 13 + group], tokens=tokens, logprobs=[-0.5] * len(tokens),
        finish="stop", forced=False, forced_at=-1, reasoning="3+4=7", answer=text, reasoning_tokens=thought,
        wrong_mode=False, score=score, reason="right" if score else "wrong", detail="", reward=score,
        parts={"correct": score},
    )  # fmt: skip
    return Rollout(**(base | changes))


def settings(objective="simper", **changes):
    return SimpleNamespace(**({"objective": objective, "epochs": 1, "reuse_share": 0.25, "batch_pairs": 3,
                               "seq_len": 64, "language": 0.5} | changes))  # fmt: skip


def test_the_shortest_right_answer_is_better_than_a_wrong_one():
    group = [answer(1, 9), answer(0, 2), answer(1, 5)]
    assert shortest_right(range(3), group).answers == (2, 1)


def test_among_right_answers_only_a_clearly_longer_one_is_worse():
    assert shortest_right(range(2), [answer(1, 20), answer(1, 10)]).answers == (1, 0)
    assert shortest_right(range(2), [answer(1, 20), answer(1, 20)]) is None
    assert shortest_right(range(2), [answer(0), answer(0)]) is None


@pytest.mark.parametrize("fault", [{"reasoning": " "}, {"forced": True}, {"wrong_mode": True}, {"finish": "length"}])
def test_a_right_answer_that_breaks_its_mode_is_never_the_better_one(fault):
    group = [answer(1, 1, **fault), answer(1, 6), answer(0, 3)]
    assert shortest_right(range(3), group).answers == (1, 2)
    assert best_answer(range(3), [1.0, 0.9, 0.0], group).answers == (1, 2)


def test_the_final_answer_stage_does_not_look_at_thoughts():
    short, long = answer(1, 1), answer(1, 30)
    assert best_answer(range(2), [0.2, 0.8], [short, long]).answers == (1, 0)
    assert best_answer(range(2), [0.8, 0.8], [short, long]) is None


def mixed(groups=12):
    return [[answer(1, 3 + g % 4, g, 0), answer(0, 5, g, 1), answer(1, 9, g, 2)] for g in range(groups)]


def test_the_stages_come_in_order_and_a_share_of_the_first_comes_again():
    groups = mixed()
    labels = [r.score for g in groups for r in g]
    made = units(groups, labels, settings(), seed=0)
    stages = [u.stage for u in made]
    assert stages[:12] == ["right"] * 12 and sorted(stages[12:]) == ["answer"] * 12 + ["right"] * 3
    assert made == units(groups, labels, settings(), seed=0) != units(groups, labels, settings(), seed=1)


@pytest.mark.parametrize("objective", sorted(PREFERENCES))
def test_every_comparison_is_trained_on_and_no_batch_depends_on_another(objective):
    groups = mixed()
    c = settings(objective)
    flat = [r for g in groups for r in g]
    made = units(groups, [r.score for r in flat], c, seed=0)
    source = PairSource(flat, made, objective, c, rows=4)
    batches = [source.batch(n) for n in range(source.steps)]
    answers = sum(len(u.answers) for u in made)
    assert sum(b.sequences for b in batches) == answers
    np.testing.assert_array_equal(batches[1].tokens_BL, source.batch(1).tokens_BL)
    for b in batches:
        if objective == "grouper":
            assert {-1.0, 1.0} <= set(b.of_sequence["advantage"].tolist())
        elif objective == "kto":
            good, moved = b.of_sequence["desirable"], b.of_sequence["mismatched"]
            assert good[~moved].any() and (~good[~moved]).any() and b.sequences == (~moved).sum()
        else:
            assert b.pairs * 2 == b.sequences and (b.of_sequence["rejected"] - b.of_sequence["chosen"] == 1).all()
