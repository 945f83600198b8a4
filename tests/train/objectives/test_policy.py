"""Relations between the policy objectives, and what each switch does."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from dokja.recipe.algorithms import KL_IN_LOSS
from dokja.train.objectives.policy import POLICY, agapo_sequence, clipped, grpo, gspo, k3
from dokja.train.objectives.samples import Samples

CLIPS = ["grpo", "dr_grpo", "dapo", "gspo"]


def one_token(s: Samples) -> Samples:
    """The same tokens, each a sequence of its own."""
    advantage_S = torch.linspace(-1, 1, s.tokens, dtype=torch.float64)
    return replace(s, sequence_T=torch.arange(s.tokens), length_S=torch.ones(s.tokens, dtype=torch.float64),
                   advantage_S=advantage_S, sequences=s.tokens)  # fmt: skip


def test_gspo_is_grpo_on_one_token_sequences(drawn, c, weights) -> None:
    c.kl_beta = 0.0
    mine, theirs = (weights(f, drawn.logp_T(), one_token(drawn.s), c) for f in (gspo, grpo))
    torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)


def test_gspo_gives_all_tokens_of_a_sequence_one_weight(drawn, c, weights) -> None:
    weight_T = weights(gspo, drawn.logp_T(), drawn.s, c)[1]
    for i in range(drawn.s.sequences):
        assert len(set(weight_T[drawn.s.sequence_T == i].tolist())) == 1


def test_agapo_token_is_cispo_with_another_normalisation(drawn, c, weights) -> None:
    c.tis_cap = 1 + c.clip_high
    agapo_T = weights(POLICY["agapo_token"], drawn.logp_T(), drawn.s, c)[1]
    cispo_T = weights(POLICY["cispo"], drawn.logp_T(), drawn.s, c)[1]
    length_T = drawn.s.length_S[drawn.s.sequence_T]
    torch.testing.assert_close(agapo_T * length_T * drawn.s.sequences, cispo_T * drawn.s.tokens, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", sorted(set(POLICY) - {"rloo", "agapo_sequence"}))
def test_on_policy_every_ratio_objective_is_a_plain_policy_gradient(name, drawn, c, weights) -> None:
    """With pi = pi_old all ratios are 1: what is left is A_i times the objective's own normaliser."""
    c.kl_beta = 0.0
    s = replace(drawn.s, old_T=drawn.logp_T().detach())
    length_T = s.length_S[s.sequence_T]
    per_sequence, per_token = 1 / (s.sequences * length_T), torch.full_like(length_T, 1 / s.tokens)
    normaliser = {"dr_grpo": torch.full_like(length_T, 1 / (s.sequences * c.max_tokens)), "dapo": per_token,
                  "cispo": per_token}.get(name, per_sequence)  # fmt: skip
    weight_T = weights(POLICY[name], drawn.logp_T(), s, c)[1]
    torch.testing.assert_close(weight_T, s.advantage_S[s.sequence_T] * normaliser, rtol=1e-12, atol=0)


def test_on_policy_rloo_is_grpo_without_its_length_bias(drawn, c, weights) -> None:
    c.kl_beta = 0.0
    s = replace(drawn.s, old_T=drawn.logp_T().detach())
    rloo_T, grpo_T = (weights(POLICY[f], drawn.logp_T(), s, c)[1] for f in ("rloo", "grpo"))
    torch.testing.assert_close(rloo_T, grpo_T * s.length_S[s.sequence_T], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", CLIPS)
def test_clipped_tokens_are_those_without_gradient(name, drawn, c, weights) -> None:
    c.kl_beta = 0.0
    if name == "gspo":
        c.clip_low = c.clip_high = 0.1
    weight_T = weights(POLICY[name], drawn.logp_T(), drawn.s, c)[1]
    held_T = clipped(name, drawn.logp_T(), drawn.s, c)
    assert 0 < held_T.sum() < drawn.s.tokens
    assert torch.equal(held_T, weight_T == 0)


@pytest.mark.parametrize("name", ["cispo", "agapo_token"])
def test_capped_tokens_keep_their_gradient(name, drawn, c, weights) -> None:
    held_T = clipped(name, drawn.logp_T(), drawn.s, c)
    assert 0 < held_T.sum() < drawn.s.tokens
    capped_T = weights(POLICY[name], drawn.logp_T(), drawn.s, c)[1]
    c.clip_high = c.tis_cap = 1e9
    free_T = weights(POLICY[name], drawn.logp_T(), drawn.s, c)[1]
    assert (capped_T != 0).all()
    assert torch.equal(held_T, capped_T.abs() < free_T.abs())


@pytest.mark.parametrize("name", ["rloo", "agapo_sequence"])
def test_objectives_without_a_ratio_hold_nothing_back(name, drawn, c) -> None:
    assert not clipped(name, drawn.logp_T(), replace(drawn.s, old_T=None), c).any()


@pytest.mark.parametrize("name", POLICY)
def test_a_reference_is_asked_for_only_where_the_loss_has_a_kl(name, drawn, c) -> None:
    without = replace(drawn.s, ref_T=None)
    if name in KL_IN_LOSS:
        with pytest.raises(ValueError, match=r"Samples\.ref_T"):
            POLICY[name](drawn.logp_T(), without, c)
        c.kl_beta = 0.0
    assert torch.isfinite(POLICY[name](drawn.logp_T(), without, c))


def test_k3_is_never_negative_and_zero_only_at_the_reference() -> None:
    logp_T = torch.linspace(-8, 0, 81, dtype=torch.float64)
    kl_T = k3(logp_T, torch.full_like(logp_T, -3.0))
    assert (kl_T >= 0).all()
    assert kl_T.argmin() == 50
    assert kl_T[50] == 0


# --- the KL of AGAPO-sequence, by enumeration ------------------------------------------------------------------------

END, VOCAB, LONGEST = 2, 3, 3


def every_answer() -> list[tuple[int, ...]]:
    """All answers over {0, 1, END}: they stop at END or after LONGEST tokens."""
    answers = []
    for n in range(1, LONGEST + 1):
        for body in product((0, 1), repeat=n - 1):
            answers += [(*body, last) for last in ((END,) if n < LONGEST else (0, 1, END))]
    return answers


def policy(seed: int) -> torch.Tensor:
    return torch.randn(LONGEST, VOCAB, VOCAB, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def token_logps(logits: torch.Tensor, answers: list[tuple[int, ...]]) -> torch.Tensor:
    """log pi of every token of every answer, one after the other, by position and the token before."""
    table = logits.log_softmax(-1)
    return torch.stack([table[t, a[t - 1] if t else END, a[t]] for a in answers for t in range(len(a))])


@pytest.mark.parametrize("seed", range(3))
def test_the_kl_of_agapo_sequence_has_the_gradient_of_the_true_kl(seed, c, weights) -> None:
    answers = every_answer()
    logits, ref_T = policy(seed).requires_grad_(), token_logps(policy(100 + seed), answers)
    s = Samples(
        sequence_T=torch.tensor([i for i, a in enumerate(answers) for _ in a]),
        length_S=torch.tensor([len(a) for a in answers], dtype=torch.float64),
        ref_T=ref_T,
        advantage_S=torch.zeros(len(answers), dtype=torch.float64),
        sequences=1,
    )
    logp_T = token_logps(logits, answers)
    logp_S = s.total(logp_T)
    assert logp_S.exp().sum().item() == pytest.approx(1)  # the answers are all there are

    kl = (logp_S.exp() * (logp_S - s.total(ref_T))).sum()
    (true,) = torch.autograd.grad(c.kl_beta * kl, logits, retain_graph=True)
    # expectation over answers drawn from pi: each one's weights, times its probability
    weight_T = weights(agapo_sequence, logp_T, s, c)[1] * logp_S.exp().detach()[s.sequence_T]
    (mine,) = torch.autograd.grad(-(weight_T * logp_T).sum(), logits, retain_graph=True)
    assert true.abs().max() > 1e-3
    torch.testing.assert_close(mine, true, rtol=1e-9, atol=1e-12)

    # the estimate that is right in value, sum_t (log pi - log ref), would pull nowhere
    (naive,) = torch.autograd.grad((logp_S.exp().detach() * logp_S).sum(), logits)
    assert naive.abs().max() < 1e-12


def test_the_expected_policy_gradient_climbs_the_expected_reward(weights, c) -> None:
    """RLOO and AGAPO-sequence at kl_beta 0, by enumeration: E[weights] is the gradient of E[A]."""
    answers, c.kl_beta = every_answer(), 0.0
    logits = policy(5).requires_grad_()
    s = Samples(
        sequence_T=torch.tensor([i for i, a in enumerate(answers) for _ in a]),
        length_S=torch.tensor([len(a) for a in answers], dtype=torch.float64),
        advantage_S=torch.linspace(-1, 2, len(answers), dtype=torch.float64),
        sequences=1,
    )
    logp_T = token_logps(logits, answers)
    logp_S = s.total(logp_T)
    (climb,) = torch.autograd.grad((logp_S.exp() * s.advantage_S).sum(), logits, retain_graph=True)
    for name in ("rloo", "agapo_sequence"):
        weight_T = weights(POLICY[name], logp_T, s, c)[1] * logp_S.exp().detach()[s.sequence_T]
        (mine,) = torch.autograd.grad((weight_T * logp_T).sum(), logits, retain_graph=True)
        torch.testing.assert_close(mine, climb, rtol=1e-9, atol=1e-12)
