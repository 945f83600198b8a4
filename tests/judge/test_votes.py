import itertools
import math
import random
from collections import Counter

import pytest
from test_records import record

from dokja.judge.stats import pass_at_k
from dokja.judge.votes import cons_at_k, votes_of


def by_drawing(answers, k, tie):
    """Every draw of k answers, voted on by counting; the right answer is "r", None casts no vote."""
    draws = list(itertools.combinations(answers, k))
    score = 0.0
    for draw in draws:
        votes = Counter(a for a in draw if a is not None)
        best = max(votes.values(), default=0)
        leaders = [a for a, n in votes.items() if n == best]
        if "r" in leaders:
            score += 1 / len(leaders) if tie == "share" else float(len(leaders) == 1)
    return score / len(draws)


@pytest.mark.parametrize("tie", ["share", "lost"])
def test_cons_at_k_equals_voting_on_every_draw(tie):
    rng = random.Random(2)
    for _ in range(25):
        answers = [rng.choice(["r", "a", "b", "c", None]) for _ in range(rng.randint(1, 8))]
        counts = Counter(answers)
        wrong = [counts[a] for a in "abc" if counts[a]]
        for k in range(1, len(answers) + 1):
            found = cons_at_k(counts["r"], wrong, counts[None], k, tie)
            assert found == pytest.approx(by_drawing(answers, k, tie)), (answers, k)


def test_a_vote_of_one_is_the_mean_score():
    assert cons_at_k(3, [2, 1], 2, 1) == pytest.approx(pass_at_k(8, 3, 1))


def test_ties_are_shared_or_lost_as_was_asked():
    assert cons_at_k(2, [2], 0, 4) == 0.5 and cons_at_k(2, [2, 2], 0, 6) == pytest.approx(1 / 3)
    assert cons_at_k(2, [2], 0, 4, "lost") == 0.0 and cons_at_k(3, [2, 2], 0, 7, "lost") == 1.0


def test_unreadable_answers_do_not_outvote_a_single_right_one():
    assert cons_at_k(1, [], 63, 64) == 1.0 and cons_at_k(0, [], 64, 64) == 0.0


def test_too_few_answers_are_no_number_and_wrong_counts_are_refused():
    assert math.isnan(cons_at_k(3, [], 0, 4))
    with pytest.raises(ValueError, match="negative"):
        cons_at_k(3, [-1], 0, 2)


def test_a_vote_of_64_is_counted_at_once():
    assert 0.5 < cons_at_k(20, [18, 9, 9, 4, 2, 1, 1], 0, 16) < 1.0


def test_votes_are_read_from_records():
    records = [
        record(score=1.0, extracted="1/2"), record(score=1.0, extracted="0.5"), record(score=0.0, extracted=" 3 A"),
        record(score=0.0, extracted="3a"), record(score=0.0, extracted="4"), record(score=0.0, extracted=None),
    ]  # fmt: skip
    assert votes_of(records) == (2, [2, 1], 1)
