import json
import math
from collections import Counter
from itertools import pairwise

import pytest

from dokja.data.shuffle import uniform
from dokja.errors import CheckpointError, ConfigError
from dokja.train.rollouts.curriculum import Bandit

ARMS = [("easy", 1), ("middle", 1), ("middle", 2), ("hopeless", 1)]


def told(seed=0, **how):
    """A bandit that has seen every arm often: two are solved half the time, one always, one never."""
    bandit = Bandit(ARMS, seed, **how)
    for _ in range(20):
        bandit.update(zip(ARMS, (1.0, 0.5, 0.5, 0.0), (8, 8, 8, 8), strict=True))
    return bandit


def shares(bandit):
    return dict(zip(bandit.arms, bandit.shares(), strict=True))


def test_untried_arms_are_drawn_alike():
    assert Bandit(ARMS, 0).shares() == pytest.approx([0.25] * 4)
    assert set(Bandit(ARMS, 0).rates().values()) == {0.5}


def test_easy_and_hopeless_arms_fade_to_little_more_than_the_floor():
    found = shares(told(floor=0.08))
    assert found["easy", 1] == pytest.approx(found["hopeless", 1])
    assert 0.02 < found["easy", 1] < 0.06 < 0.4 < found["middle", 1] == found["middle", 2]
    assert math.fsum(found.values()) == pytest.approx(1.0)


def test_an_arm_that_becomes_easy_fades_and_one_that_becomes_possible_returns():
    bandit = told()
    before = shares(bandit)
    for _ in range(6):
        bandit.update([(("middle", 1), 1.0, 8), (("hopeless", 1), 0.4, 8)])
    after = shares(bandit)
    assert after["middle", 1] < 0.4 * before["middle", 1] and after["hopeless", 1] > 2 * before["hopeless", 1]


@pytest.mark.parametrize("target", [0.3, 0.5, 0.8])
def test_the_arm_at_the_target_is_drawn_most(target):
    arms = [("t", level) for level in range(1, 10)]
    bandit = Bandit(arms, 0, target=target)
    for _ in range(40):
        bandit.update([(arm, arm[1] / 10, 64) for arm in arms])
    assert max(shares(bandit), key=shares(bandit).get) == ("t", round(target * 10))


def test_at_one_half_the_share_follows_the_variance_of_the_reward():
    bandit = Bandit([("t", 1), ("t", 2)], 0, floor=0.0, memory=0.0)
    bandit.update([(("t", 1), 0.5, 10**9), (("t", 2), 0.1, 10**9)])
    assert bandit.shares() == pytest.approx([0.25 / 0.34, 0.09 / 0.34])


@pytest.mark.parametrize("n", [1, 7, 64])
def test_draws_follow_the_shares_to_within_one(n):
    bandit = told()
    for step in range(50):
        drawn = Counter(bandit.draw(n, step))
        assert sum(drawn.values()) == n
        assert all(abs(drawn[arm] - n * share) < 1 for arm, share in shares(bandit).items())


def test_draws_have_the_shares_in_the_long_run_and_come_mixed():
    bandit = told()
    drawn = [bandit.draw(8, step) for step in range(2000)]
    counts = Counter(arm for arms in drawn for arm in arms)
    assert [counts[arm] / 16000 for arm in ARMS] == pytest.approx(bandit.shares(), abs=0.005)
    in_blocks = [sorted(arms, key=ARMS.index) for arms in drawn]
    assert sum(a == b for a, b in zip(drawn, in_blocks, strict=True)) < 200


def test_a_draw_is_a_function_of_state_seed_and_step():
    one, same, other = told(1), told(1), told(2)
    one.draw(64, 3)  # a draw changes nothing
    assert one.draw(64, 5) == same.draw(64, 5)
    assert one.draw(64, 5) != one.draw(64, 6) and one.draw(64, 5) != other.draw(64, 5)


def test_no_arm_starves():
    bandit = told(floor=0.2)
    waits = math.ceil(len(ARMS) / (0.2 * 8))  # steps of 8 draws until the floor alone owes an arm one
    drawn = [set(bandit.draw(8, step)) for step in range(400)]
    longest = 0
    for arm in ARMS:
        places = [-1, *(step for step, arms in enumerate(drawn) if arm in arms), 400]
        longest = max(longest, *(b - a for a, b in pairwise(places)))
    assert longest <= 8 * waits
    assert min(bandit.shares()) >= 0.2 / len(ARMS)


def test_resumed_through_json_it_goes_on_exactly():
    straight, first = told(7, memory=0.9), told(7, memory=0.9)
    resumed = Bandit(ARMS, 7, memory=0.9)
    resumed.load(json.loads(json.dumps(first.state())))
    assert resumed.state() == straight.state()
    for step in range(20):
        arms = straight.draw(5, step)
        assert resumed.draw(5, step) == arms
        for bandit in (straight, resumed):
            bandit.update([(arm, step % 7 / 6, 8) for arm in arms])
    assert resumed.state() == straight.state() and resumed.rates() == straight.rates()


@pytest.mark.parametrize("how", [{"seed": 8}, {"target": 0.4}, {"memory": 0.5}, {"arms": ARMS[:3]}])
def test_a_state_of_another_curriculum_is_refused(how):
    with pytest.raises(CheckpointError, match="another curriculum"):
        Bandit(**{"arms": ARMS, "seed": 7, **how}).load(told(7).state())


def test_a_damaged_state_is_refused():
    state = told(7).state()
    state["counts"]["easy/1"] = [9.0, 1.0]
    with pytest.raises(CheckpointError, match="easy/1 is damaged"):
        Bandit(ARMS, 7).load(state)


def test_results_of_one_arm_in_one_step_count_together():
    one, split = Bandit(ARMS, 0), Bandit(ARMS, 0)
    one.update([(ARMS[0], 0.5, 16)])
    split.update([(ARMS[0], 0.25, 8), (ARMS[1], 0.0, 0), (ARMS[0], 0.75, 8)])
    assert one.state() == split.state()


@pytest.mark.parametrize("result", [(("other", 1), 0.5, 8), (ARMS[0], 1.5, 8), (ARMS[0], 0.5, -1)])
def test_results_that_cannot_be_are_refused(result):
    with pytest.raises(ValueError, match="no result"):
        Bandit(ARMS, 0).update([result])


@pytest.mark.parametrize(
    "how", [{"arms": []}, {"arms": ARMS + ARMS[:1]}, {"target": 1.0}, {"floor": 1.1}, {"memory": 1}]
)
def test_what_cannot_be_meant_is_refused(how):
    with pytest.raises(ConfigError, match="curriculum"):
        Bandit(**{"arms": ARMS, "seed": 0, **how})


LEVELS = [("t", level) for level in range(1, 16)]


def taught(draw, update, steps=150, prompts=24, answers=8):
    """(mean success by step, final skill) of a simulated learner, whose skill grows most with problems near it."""
    skill, success = 5.0, []
    for step in range(steps):
        results, gained = [], 0.0
        for place, arm in enumerate(draw(prompts, step)):
            chance = 1 / (1 + math.exp(1.5 * (arm[1] - skill)))
            results.append((arm, float((uniform(answers, "learner", step, place) < chance).mean()), answers))
            gained += chance * (1 - chance)
        update(results)
        skill += 0.01 * gained
        success.append(sum(score for _, score, _ in results) / prompts)
    return success, skill


def test_success_stays_near_the_target_while_a_learner_learns():
    bandit = Bandit(LEVELS, 3)
    success, skill = taught(bandit.draw, bandit.update)
    even, even_skill = taught(lambda n, step: [LEVELS[(step * n + i) % 15] for i in range(n)], lambda results: None)
    by_tens = [sum(success[at : at + 10]) / 10 for at in range(20, 150, 10)]
    assert all(abs(mean - 0.5) < 0.1 for mean in by_tens)
    assert max(abs(sum(even[at : at + 10]) / 10 - 0.5) for at in range(20, 150, 10)) > 0.15
    assert skill - 5 > 2 * (even_skill - 5) > 0
