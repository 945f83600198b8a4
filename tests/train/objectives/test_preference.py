"""Relations between the preference objectives, their bounds and limits."""

import math
from dataclasses import replace

import pytest
import torch

from dokja.train.objectives.advantage import grouper as grouper_advantage
from dokja.train.objectives.preference import (
    NEEDS_REFERENCE,
    PREFERENCE,
    dpo,
    grouper,
    implicit_reward,
    ipo,
    kto,
    log_one_minus_exp,
    orpo,
    simper,
    simpo,
)

PAIRED = ["dpo", "ipo", "simpo", "orpo", "simper"]


def test_grouper_of_two_answers_is_half_of_simper(drawn, c, weights) -> None:
    """Loss and gradient, whatever the rewards: only their order matters."""
    group_S = [0, 0, 1, 1, 2, 2]  # the pairs (0, 1), (3, 2), (5, 4)
    advantage_S, keep_S = grouper_advantage([0.9, 0.1, -3.0, 5.0, 0.2, 0.21], group_S)
    assert keep_S.all()
    s = replace(drawn.s, advantage_S=torch.from_numpy(advantage_S))
    loss, weight_T = weights(grouper, drawn.logp_T(), s, c)
    simper_loss, simper_T = weights(simper, drawn.logp_T(), s, c)
    torch.testing.assert_close(loss, simper_loss / 2, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(weight_T, simper_T / 2, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("seed", range(5))
def test_simper_lies_between_minus_one_and_one(seed, drawn, c) -> None:
    logp_T = -torch.rand(drawn.s.tokens, generator=torch.Generator().manual_seed(seed)).double() * 10 ** (seed - 1)
    assert -1 < simper(logp_T, drawn.s, c) < 1


def test_simper_reaches_its_bounds_when_answers_are_certain_or_impossible(drawn, c) -> None:
    sure = torch.isin(drawn.s.sequence_T, drawn.s.chosen_P)
    best_T, worst_T = (torch.where(which, 0.0, -1e3).double() for which in (sure, ~sure))
    assert simper(best_T, drawn.s, c) == -1
    assert simper(worst_T, drawn.s, c) == 1


@pytest.mark.parametrize("name", PAIRED)
def test_swapping_better_and_worse_reverses_the_pull_between_them(name, drawn, c, weights) -> None:
    """At a tie, which answer is called the better one decides alone; both sides feel it."""
    s = replace(drawn.s, length_S=torch.full((2,), 3.0).double(), sequence_T=torch.tensor([0, 0, 0, 1, 1, 1]),
                ref_T=torch.full((6,), -1.0).double(), pairs=1,
                chosen_P=torch.tensor([0]), rejected_P=torch.tensor([1]))  # fmt: skip
    swapped = replace(s, chosen_P=s.rejected_P, rejected_P=s.chosen_P)
    tie_T = torch.full((6,), -1.0).double()
    there_T, back_T = (weights(PREFERENCE[name], tie_T, x, c)[1] for x in (s, swapped))
    torch.testing.assert_close(there_T, back_T.flip(0), rtol=1e-12, atol=0)
    assert (there_T[:3] > 0).all() and (there_T[3:] < 0).all()


def test_dpo_at_the_reference_is_log_two(drawn, c) -> None:
    assert dpo(drawn.s.ref_T, drawn.s, c).item() == pytest.approx(math.log(2))


def test_ipo_vanishes_exactly_at_its_margin(drawn, c, weights) -> None:
    """Delta/|y| is 1/(4 beta) up for the chosen and as much down for the rejected: nothing left to do."""
    margin = 1 / (4 * c.beta)
    chosen = torch.isin(drawn.s.sequence_T, drawn.s.chosen_P)
    logp_T = drawn.s.ref_T + margin * (2.0 * chosen - 1).double()
    loss, weight_T = weights(ipo, logp_T, drawn.s, c)
    assert loss.item() == pytest.approx(0, abs=1e-20)
    assert weight_T.abs().max().item() == pytest.approx(0, abs=1e-12)


def test_dpo_is_simpo_without_margin_on_one_token_answers_under_a_uniform_reference(drawn, c, weights) -> None:
    tokens = 6
    s = replace(drawn.s, sequence_T=torch.arange(tokens), length_S=torch.ones(tokens).double(),
                ref_T=torch.full((tokens,), -2.0).double())  # fmt: skip
    c.gamma = 0.0
    logp_T = drawn.logp_T()[:tokens]
    torch.testing.assert_close(weights(dpo, logp_T, s, c), weights(simpo, logp_T, s, c), rtol=1e-12, atol=1e-15)


def test_orpo_without_its_odds_is_the_mean_likelihood_of_the_chosen(drawn, c) -> None:
    c.weight = 0.0
    expected = -drawn.s.mean(drawn.logp_T())[drawn.s.chosen_P].mean()
    torch.testing.assert_close(orpo(drawn.logp_T(), drawn.s, c), expected)


def test_orpo_of_certain_answers_still_has_a_gradient_in_fp32(drawn, c, weights) -> None:
    logp_T = torch.where(torch.isin(drawn.s.sequence_T, drawn.s.rejected_P), -1e-4, -2.0)
    weight_T = weights(orpo, logp_T, replace(drawn.s, length_S=drawn.s.length_S.float()), c)[1]
    assert torch.isfinite(weight_T).all() and (weight_T != 0).all()


def test_log_one_minus_exp_is_exact_near_and_far_from_zero() -> None:
    for x in (-1e-12, -1e-6, -0.5, -math.log(2), -1.0, -40.0):
        expected = math.log(-math.expm1(x)) if x > -1 else math.log1p(-math.exp(x))
        assert log_one_minus_exp(torch.tensor(x, dtype=torch.float64)).item() == pytest.approx(expected, rel=1e-12)


def test_mismatched_answers_move_ktos_zero_and_nothing_else(drawn, c, weights) -> None:
    loss, weight_T = weights(kto, drawn.logp_T(), drawn.s, c)
    other = drawn.s.mismatched_S[drawn.s.sequence_T]
    assert (weight_T[other] == 0).all() and (weight_T[~other] != 0).all()
    raised = weights(kto, drawn.logp_T() + other * 1.0, drawn.s, c)[0]
    assert raised != loss


def test_ktos_zero_is_never_negative(drawn, c) -> None:
    other = drawn.s.mismatched_S[drawn.s.sequence_T]
    low, lower = (kto(drawn.logp_T() - other * x, drawn.s, c) for x in (50.0, 90.0))
    none = kto(drawn.logp_T()[~other], replace(drawn.s, sequence_T=drawn.s.sequence_T[~other],
               ref_T=drawn.s.ref_T[~other], mismatched_S=torch.zeros(6).bool(),
               sequences=drawn.s.sequences), c)  # fmt: skip
    assert low == lower
    # without mismatched answers the two then empty sequences bear a loss at Delta = 0: beta * 0 gives one half each
    assert (none - low).item() == pytest.approx((c.desirable_weight + c.undesirable_weight) / 2 / drawn.s.sequences)


@pytest.mark.parametrize("name", PREFERENCE)
def test_a_reference_is_needed_exactly_where_it_is_said(name, drawn, c) -> None:
    without = replace(drawn.s, ref_T=None)
    if name in NEEDS_REFERENCE:
        with pytest.raises(ValueError, match=r"Samples\.ref_T"):
            PREFERENCE[name](drawn.logp_T(), without, c)
    else:
        assert torch.isfinite(PREFERENCE[name](drawn.logp_T(), without, c))


@pytest.mark.parametrize("name", PREFERENCE)
def test_a_small_step_down_the_loss_widens_the_gap_it_ranks_by(name, drawn, c, weights) -> None:
    """The weights themselves as a direction in logp space: chosen (desirable, A > 0) answers rise, others fall."""
    weight_T = weights(PREFERENCE[name], drawn.logp_T(), drawn.s, c)[1]
    before_S, after_S = (
        implicit_reward(name, x_T, drawn.s, c) for x_T in (drawn.logp_T(), drawn.logp_T() + 1e-3 * weight_T)
    )
    if name == "kto":
        up_S, down_S = drawn.s.desirable_S & ~drawn.s.mismatched_S, ~drawn.s.desirable_S & ~drawn.s.mismatched_S
    elif name == "grouper":
        up_S, down_S = drawn.s.advantage_S > 0, drawn.s.advantage_S < 0
    else:
        up_S, down_S = drawn.s.chosen_P, drawn.s.rejected_P
    assert (after_S[up_S] > before_S[up_S]).all()
    assert (after_S[down_S] < before_S[down_S]).all()
