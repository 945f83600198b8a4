"""Relations between advantages, on random rewards with groups that differ in size and lie scattered."""

from types import SimpleNamespace

import numpy as np
import pytest

from dokja.errors import ConfigError
from dokja.train.objectives.advantage import (
    advantages,
    agapo,
    centred,
    grouper,
    kept_groups,
    kl_in_reward,
    leave_one_out,
    standardised,
)

GROUP_S = np.array([7, 7, -2, 7, -2, 30, 30, 30, 30, 30, 7, -2])  # sizes 4, 3, 5


def rewards(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=len(GROUP_S))


def sizes() -> np.ndarray:
    return np.array([(label == GROUP_S).sum() for label in GROUP_S])


def totals(x_S: np.ndarray, group_S: np.ndarray = GROUP_S) -> list[float]:
    return [float(x_S[group_S == label].sum()) for label in np.unique(group_S)]


def test_leave_one_out_is_the_reward_minus_the_mean_of_the_others() -> None:
    r_S = rewards(0)
    for i, label in enumerate(GROUP_S):
        others = [r_S[j] for j in range(len(r_S)) if GROUP_S[j] == label and j != i]
        assert leave_one_out(r_S, GROUP_S)[i] == pytest.approx(r_S[i] - sum(others) / len(others))


@pytest.mark.parametrize("advantage", [leave_one_out, centred, standardised])
def test_advantages_sum_to_zero_in_every_group(advantage) -> None:
    assert totals(advantage(rewards(1), GROUP_S)) == pytest.approx([0, 0, 0], abs=1e-12)


def test_dr_grpo_is_g_minus_one_over_g_times_rloo() -> None:
    r_S, g_S = rewards(2), sizes()
    np.testing.assert_allclose(centred(r_S, GROUP_S), (g_S - 1) / g_S * leave_one_out(r_S, GROUP_S), rtol=1e-12)


def test_standardised_is_centred_over_the_sample_deviation() -> None:
    r_S = rewards(3)
    std_S = np.array([r_S[label == GROUP_S].std(ddof=1) for label in GROUP_S])
    np.testing.assert_allclose(standardised(r_S, GROUP_S), centred(r_S, GROUP_S) / (std_S + 1e-4), rtol=1e-12)


def test_agapo_with_equal_groups_is_group_centred_over_the_batch_deviation() -> None:
    r_S, group_S = rewards(4), np.repeat([0, 1, 2], 4)
    mine_S = agapo(r_S, group_S, r_S > 0)
    c_S = centred(r_S, group_S)
    np.testing.assert_allclose(mine_S, c_S / c_S.std(ddof=1), rtol=1e-12)


def test_agapo_is_white_over_the_batch() -> None:
    a_S = agapo(rewards(5), GROUP_S, np.ones(len(GROUP_S)))
    assert a_S.mean() == pytest.approx(0, abs=1e-12)
    assert a_S.std(ddof=1) == pytest.approx(1)


def test_agapo_without_std_is_leave_one_out() -> None:
    r_S = rewards(6)
    np.testing.assert_allclose(agapo(r_S, GROUP_S, r_S > 0, std="none"), leave_one_out(r_S, GROUP_S), atol=1e-12)


def test_dropping_groups_of_equal_rewards_only_rescales_agapo() -> None:
    # EXAONE 4.0 keeps all-wrong groups and K-EXAONE drops them: as written, that changes the deviation and no more
    r_S = rewards(7)
    r_S[GROUP_S == 30] = 0.25
    kept = kept_groups(r_S, GROUP_S, "zero_variance")
    whole_S, filtered_S = agapo(r_S, GROUP_S, r_S > 0), agapo(r_S[kept], GROUP_S[kept], r_S[kept] > 0)
    factor = filtered_S / whole_S[kept]
    np.testing.assert_allclose(factor, factor[0], rtol=1e-12)
    assert factor[0] < 1


# one group right now and then, one solved, one without a right answer: the case the papers and the formula disagree on
MIXED_S = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
SCORE_S = np.array([1, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0], np.float64)


def test_all_wrong_groups_get_exactly_nothing_as_the_formula_is_written() -> None:
    assert agapo(SCORE_S, MIXED_S, SCORE_S)[MIXED_S == 2].tolist() == [0.0] * 4


def test_all_wrong_groups_get_exactly_the_offset() -> None:
    a_S = agapo(SCORE_S, MIXED_S, SCORE_S, all_wrong="offset", all_wrong_advantage=0.3)
    assert a_S[MIXED_S == 2].tolist() == [-0.3] * 4
    np.testing.assert_array_equal(a_S[MIXED_S != 2], agapo(SCORE_S, MIXED_S, SCORE_S)[MIXED_S != 2])


@pytest.mark.parametrize("std", ["batch", "none"])
def test_all_wrong_groups_are_pushed_down_under_the_batch_mean_when_something_was_right(std) -> None:
    a_S = agapo(SCORE_S, MIXED_S, SCORE_S, all_wrong="global_mean", std=std)
    assert (a_S[MIXED_S == 2] < 0).all()
    assert a_S.mean() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("all_wrong", ["literal", "global_mean"])
def test_a_batch_without_a_right_answer_teaches_nothing(all_wrong) -> None:
    assert agapo(np.zeros(12), MIXED_S, np.zeros(12), all_wrong=all_wrong).tolist() == [0.0] * 12


def test_wrong_is_what_the_grader_says_not_what_the_reward_says() -> None:
    # penalties make rewards of an all-wrong group differ, and those of a solved group negative
    r_S = SCORE_S - np.array([0, 0.1] * 6) - 2 * (MIXED_S == 1)
    a_S = agapo(r_S, MIXED_S, SCORE_S, all_wrong="offset", all_wrong_advantage=1.0)
    assert (a_S == -1.0).tolist() == (MIXED_S == 2).tolist()


@pytest.mark.parametrize("scale, shift", [(3.0, 0.0), (0.01, -5.0), (40.0, 2.0)])
def test_grouper_is_invariant_to_positive_affine_maps_of_the_reward(scale, shift) -> None:
    r_S = rewards(8)
    np.testing.assert_allclose(grouper(scale * r_S + shift, GROUP_S)[0], grouper(r_S, GROUP_S)[0], atol=1e-9)


def test_grouper_equals_its_z_scored_definition() -> None:
    r_S = rewards(9)
    z_S = standardised(r_S, GROUP_S)
    expected_S = np.empty_like(r_S)
    for label in np.unique(GROUP_S):
        z = z_S[label == GROUP_S]
        expected_S[label == GROUP_S] = 2 * (z - z.min()) / (z.max() - z.min()) - 1
    np.testing.assert_allclose(grouper(r_S, GROUP_S)[0], expected_S, atol=1e-12)


def test_grouper_always_reaches_both_ends_and_drops_groups_without_difference() -> None:
    r_S = rewards(10)
    r_S[GROUP_S == 7] = 0.1 + 0.2
    a_S, keep_S = grouper(r_S, GROUP_S)
    assert keep_S.tolist() == (GROUP_S != 7).tolist()
    assert (a_S[~keep_S] == 0).all()
    for label in (-2, 30):
        assert (a_S[label == GROUP_S].min(), a_S[label == GROUP_S].max()) == (-1.0, 1.0)


@pytest.mark.parametrize(
    "rule, kept", [("all", [0, 1, 2]), ("zero_variance", [0]), ("all_correct", [0, 2])]
)  # groups: mixed, solved, all wrong
def test_groups_are_dropped_by_rule(rule, kept) -> None:
    assert kept_groups(SCORE_S, MIXED_S, rule).tolist() == np.isin(MIXED_S, kept).tolist()


@pytest.mark.parametrize("all_wrong", ["literal", "offset", "global_mean"])
@pytest.mark.parametrize("right", [0, 1])
def test_a_lone_sample_gets_nothing_though_the_batch_is_shifted(all_wrong, right) -> None:
    reward_S, group_S = np.append(SCORE_S, right), np.append(MIXED_S, 9)
    assert agapo(reward_S, group_S, reward_S, all_wrong=all_wrong)[-1] == 0


@pytest.mark.parametrize("name", ["loo", "group", "center", "global"])
@pytest.mark.parametrize("all_wrong", ["literal", "offset", "global_mean"])
def test_lone_samples_and_rounding_get_nothing(name, all_wrong) -> None:
    c = SimpleNamespace(all_wrong=all_wrong, all_wrong_advantage=1.0, std="batch")
    # sample 0 is alone; the others' rewards are equal up to rounding
    a_S = advantages(name, [5.0, 0.3, 0.1 + 0.2, 0.3], [0, 1, 1, 1], [1, 1, 1, 1], c)
    assert a_S.tolist() == [0.0] * 4


def test_the_names_of_a_recipe_choose_the_functions() -> None:
    r_S, c = rewards(11), SimpleNamespace(all_wrong="global_mean", all_wrong_advantage=1.0, std="none")
    right_S = GROUP_S == 7
    expected = {
        "loo": leave_one_out(r_S, GROUP_S),
        "group": standardised(r_S, GROUP_S),
        "center": centred(r_S, GROUP_S),
        "global": agapo(r_S, GROUP_S, right_S, all_wrong="global_mean", std="none"),
    }
    for name, a_S in expected.items():
        np.testing.assert_array_equal(advantages(name, r_S, GROUP_S, right_S, c), a_S)
    assert len({tuple(a_S) for a_S in expected.values()}) == len(expected)


@pytest.mark.parametrize(
    "call",
    [
        lambda: advantages("mean", [0], [0], [0], None),
        lambda: kept_groups([0], [0], "some"),
        lambda: agapo([0], [0], [0], all_wrong="kl_in_reward"),
        lambda: agapo([0], [0], [0], std="group"),
    ],
)
def test_an_unknown_word_is_refused_with_the_known_ones(call) -> None:
    with pytest.raises(ConfigError, match=r"write \w+"):
        call()


def test_kl_in_the_reward_differs_within_a_group_that_scored_alike() -> None:
    # what makes an all-wrong group teach something under RLOO
    r_S = kl_in_reward([0.0, 0.0, 0.0], [2.0, 0.5, -1.0], 0.1)
    assert r_S.tolist() == pytest.approx([-0.2, -0.05, 0.1])
    assert np.argsort(leave_one_out(r_S, [0, 0, 0])).tolist() == [0, 1, 2]
