"""weight_T = -dL/dlogp_T of every objective, against closed forms derived by hand and against full autograd.

Both sides are written down here a second time, from the papers and in plain loops over sequences, so that a slip in
a formula, a sign or a normaliser shows. All of it is fp64 on a bigram softmax policy with answers of unequal length,
ratios on both sides of the clip, and three pairs.
"""

import math
from dataclasses import replace

import pytest
import torch

from dokja.train.objectives.policy import POLICY
from dokja.train.objectives.preference import PREFERENCE

OBJECTIVES = {**POLICY, **PREFERENCE}


def answers(s):
    """(i, positions of its tokens) of every sequence."""
    return [(i, (s.sequence_T == i).nonzero().flatten().tolist()) for i in range(len(s.length_S))]


def clip_bound(r, a, c):
    """min(r a, clip(r) a) and its slope in log r, by cases."""
    if a > 0 and r > 1 + c.clip_high:
        return (1 + c.clip_high) * a, 0.0
    if a < 0 and r < 1 - c.clip_low:
        return (1 - c.clip_low) * a, 0.0
    return r * a, r * a


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


# --- closed forms: weight of each token, derived by hand -------------------------------------------------------------


def closed_form(name: str, logp_T, s, c) -> list[float]:
    lp, w = logp_T.tolist(), [0.0] * s.tokens
    old, ref, adv = s.old_T.tolist(), s.ref_T.tolist(), s.advantage_S.tolist()
    n = {i: len(ts) for i, ts in answers(s)}
    mean = {i: sum(lp[t] for t in ts) / len(ts) for i, ts in answers(s)}
    delta = {i: sum(lp[t] - ref[t] for t in ts) for i, ts in answers(s)}
    for i, ts in answers(s):
        for t in ts:
            r, a = math.exp(lp[t] - old[t]), adv[i]
            if name == "rloo":
                w[t] = a / s.sequences
            elif name == "grpo":
                pull = c.kl_beta * (math.exp(ref[t] - lp[t]) - 1)
                w[t] = (clip_bound(r, a, c)[1] + pull) / n[i] / s.sequences
            elif name == "dr_grpo":
                w[t] = clip_bound(r, a, c)[1] / (s.sequences * c.max_tokens)
            elif name == "dapo":
                w[t] = clip_bound(r, a, c)[1] / s.tokens
            elif name == "gspo":
                s_i = math.exp(sum(lp[u] - old[u] for u in ts) / n[i])
                w[t] = clip_bound(s_i, a, c)[1] / n[i] / s.sequences
            elif name == "cispo":
                w[t] = min(r, 1 + c.clip_high) * a / s.tokens
            elif name == "agapo_sequence":
                w[t] = (a - c.kl_beta * delta[i]) / s.sequences
            elif name == "agapo_token":
                w[t] = min(r, c.tis_cap) * a / n[i] / s.sequences
            elif name == "grouper":
                w[t] = a * math.exp(mean[i]) / n[i] / s.sequences
    if name == "kto":
        z0 = max(0.0, (delta[4] + delta[5]) / 2)
        for i, ts in answers(s)[:4]:
            p = sigmoid(c.beta * (delta[i] - z0))
            sign = c.desirable_weight if s.desirable_S[i] else -c.undesirable_weight
            for t in ts:
                w[t] = sign * c.beta * p * (1 - p) / s.sequences
    if name in {"dpo", "ipo", "simpo", "orpo", "simper"}:
        for x, y in zip(s.chosen_P.tolist(), s.rejected_P.tolist(), strict=True):
            if name == "dpo":
                push = c.beta * sigmoid(-c.beta * (delta[x] - delta[y]))
                up, down = push, push
            elif name == "ipo":
                short = 2 * (1 / (2 * c.beta) - (delta[x] / n[x] - delta[y] / n[y]))
                up, down = short / n[x], short / n[y]
            elif name == "simpo":
                push = c.beta * sigmoid(c.gamma - c.beta * (mean[x] - mean[y]))
                up, down = push / n[x], push / n[y]
            elif name == "orpo":
                p_x, p_y = math.exp(mean[x]), math.exp(mean[y])
                push = c.weight * sigmoid(math.log(p_y / (1 - p_y)) - math.log(p_x / (1 - p_x)))
                up, down = (1 + push / (1 - p_x)) / n[x], push / (1 - p_y) / n[y]
            else:
                up, down = math.exp(mean[x]) / n[x], math.exp(mean[y]) / n[y]
            for i, value in ((x, up), (y, -down)):
                for t in dict(answers(s))[i]:
                    w[t] += value / s.pairs
    return w


# --- the written formulas, differentiated through the whole model ----------------------------------------------------


def clipped_gain(r, a, c):
    return torch.min(r * a, r.clamp(1 - c.clip_low, 1 + c.clip_high) * a)


def written(name: str, logp_T, s, c):
    """The loss as the paper prints it: sums over answers and tokens of torch scalars."""
    n_i = {i: len(ts) for i, ts in answers(s)}
    log_pi = {i: sum(logp_T[t] for t in ts) for i, ts in answers(s)}
    log_ref = {i: sum(s.ref_T[t] for t in ts) for i, ts in answers(s)}
    pairs = list(zip(s.chosen_P.tolist(), s.rejected_P.tolist(), strict=True))
    terms = []
    if name in {"dpo", "ipo", "simpo", "orpo", "simper"}:
        for w, l in pairs:  # noqa: E741 - the papers' letters
            d_w, d_l = log_pi[w] - log_ref[w], log_pi[l] - log_ref[l]
            m_w, m_l = log_pi[w] / n_i[w], log_pi[l] / n_i[l]
            if name == "dpo":
                terms.append(-torch.log(torch.sigmoid(c.beta * (d_w - d_l))))
            elif name == "ipo":
                terms.append((d_w / n_i[w] - d_l / n_i[l] - 1 / (2 * c.beta)) ** 2)
            elif name == "simpo":
                terms.append(-torch.log(torch.sigmoid(c.beta * m_w - c.beta * m_l - c.gamma)))
            elif name == "orpo":
                odds_w, odds_l = m_w.exp() / (1 - m_w.exp()), m_l.exp() / (1 - m_l.exp())
                terms.append(-m_w - c.weight * torch.log(torch.sigmoid(torch.log(odds_w / odds_l))))
            else:
                terms.append(-m_w.exp() + m_l.exp())
        return sum(terms) / s.pairs
    if name == "kto":
        z0 = torch.stack([log_pi[i] - log_ref[i] for i in (4, 5)]).mean().clamp(min=0).detach()
        for i in range(4):
            value = c.beta * (log_pi[i] - log_ref[i] - z0)
            good, bad = c.desirable_weight, c.undesirable_weight
            terms.append(good * (1 - torch.sigmoid(value)) if s.desirable_S[i] else bad * (1 - torch.sigmoid(-value)))
        return sum(terms) / s.sequences
    for i, ts in answers(s):
        a = s.advantage_S[i]
        r = {t: torch.exp(logp_T[t]) / torch.exp(s.old_T[t]) for t in ts}
        if name == "rloo":
            terms.append(a * log_pi[i] / s.sequences)
        elif name == "grpo":
            rho = {t: torch.exp(s.ref_T[t]) / torch.exp(logp_T[t]) for t in ts}
            kl = {t: rho[t] - torch.log(rho[t]) - 1 for t in ts}
            terms.append(sum(clipped_gain(r[t], a, c) - c.kl_beta * kl[t] for t in ts) / n_i[i] / s.sequences)
        elif name == "dr_grpo":
            terms.append(sum(clipped_gain(r[t], a, c) for t in ts) / (s.sequences * c.max_tokens))
        elif name == "dapo":
            terms.append(sum(clipped_gain(r[t], a, c) for t in ts) / s.tokens)
        elif name == "gspo":
            s_i = (torch.exp(log_pi[i]) / torch.exp(sum(s.old_T[t] for t in ts))) ** (1 / n_i[i])
            terms.append(clipped_gain(s_i, a, c) / s.sequences)
        elif name == "cispo":
            terms.append(sum(r[t].clamp(max=1 + c.clip_high).detach() * a * logp_T[t] for t in ts) / s.tokens)
        elif name == "agapo_sequence":
            terms.append((a * log_pi[i] - c.kl_beta * (log_pi[i] - log_ref[i]) ** 2 / 2) / s.sequences)
        elif name == "agapo_token":
            gain = sum(r[t].clamp(max=c.tis_cap).detach() * a * logp_T[t] for t in ts)
            terms.append(gain / n_i[i] / s.sequences)
        elif name == "grouper":
            terms.append(a * torch.exp(log_pi[i] / n_i[i]) / s.sequences)
    return -sum(terms)


# --- the tests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBJECTIVES)
def test_weights_equal_the_closed_form(name, drawn, c, weights) -> None:
    weight_T = weights(OBJECTIVES[name], drawn.logp_T(), drawn.s, c)[1]
    expected_T = torch.tensor(closed_form(name, drawn.logp_T().detach(), drawn.s, c), dtype=torch.float64)
    assert expected_T.abs().max() > 1e-3
    torch.testing.assert_close(weight_T, expected_T, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_equals_the_written_formula(name, drawn, c) -> None:
    loss = OBJECTIVES[name](drawn.logp_T(), drawn.s, c)
    torch.testing.assert_close(loss, written(name, drawn.logp_T(), drawn.s, c), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_on_weights_is_a_step_on_the_written_formula(name, drawn, c, weights) -> None:
    """What the trainer does (minimise -sum weight logp) moves the parameters as autograd of the formula would."""
    weight_T = weights(OBJECTIVES[name], drawn.logp_T(), drawn.s, c)[1]
    (by_weights,) = torch.autograd.grad(-(weight_T * drawn.logp_T()).sum(), drawn.logits_VV)
    (by_formula,) = torch.autograd.grad(written(name, drawn.logp_T(), drawn.s, c), drawn.logits_VV)
    assert by_formula.abs().max() > 1e-3
    torch.testing.assert_close(by_weights, by_formula, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_order_of_tokens_does_not_matter(name, drawn, c, weights) -> None:
    order_T = torch.randperm(drawn.s.tokens, generator=torch.Generator().manual_seed(3))
    shuffled = replace(drawn.s, **{f: getattr(drawn.s, f)[order_T] for f in ("sequence_T", "old_T", "ref_T")})
    loss, weight_T = weights(OBJECTIVES[name], drawn.logp_T(), drawn.s, c)
    loss_shuffled, weight_shuffled_T = weights(OBJECTIVES[name], drawn.logp_T()[order_T], shuffled, c)
    torch.testing.assert_close(loss_shuffled, loss, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(weight_shuffled_T, weight_T[order_T], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"kto"}))
def test_shares_of_micro_batches_add_up_to_the_whole_batch(name, drawn, c, part, weights) -> None:
    loss, weight_T = weights(OBJECTIVES[name], drawn.logp_T(), drawn.s, c)
    shares, parts_T = 0.0, torch.zeros_like(weight_T)
    for kept in ([0, 1], [2, 3], [4, 5]):  # the pairs are (0, 1), (3, 2), (5, 4)
        logp_T, micro = part(drawn.logp_T(), drawn.s, kept)
        share, w_T = weights(OBJECTIVES[name], logp_T, micro, c)
        shares += share
        parts_T[torch.isin(drawn.s.sequence_T, torch.tensor(kept))] = w_T
    torch.testing.assert_close(shares, loss, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(parts_T, weight_T, rtol=1e-12, atol=1e-14)


def test_shares_of_kto_add_up_where_each_micro_batch_sees_the_same_mismatched_answers(drawn, c, part, weights) -> None:
    loss = weights(PREFERENCE["kto"], drawn.logp_T(), drawn.s, c)[0]
    shares = [
        weights(PREFERENCE["kto"], *part(drawn.logp_T(), drawn.s, kept), c)[0] for kept in ([0, 2, 4, 5], [1, 3, 4, 5])
    ]
    torch.testing.assert_close(sum(shares), loss, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("shift", [-1e4, -90.0, 90.0, 1e4])
def test_extreme_ratios_stay_finite_in_fp32(name, shift, drawn, c, weights) -> None:
    logp_T = drawn.logp_T().detach().float()
    wild_T = torch.where(torch.arange(drawn.s.tokens) % 2 == 0, logp_T + shift, logp_T)
    s = replace(drawn.s, old_T=wild_T, ref_T=wild_T.flip(0), length_S=drawn.s.length_S.float(),
                advantage_S=drawn.s.advantage_S.float())  # fmt: skip
    for policy_T in (logp_T, torch.zeros_like(logp_T), torch.full_like(logp_T, -1e4)):
        loss, weight_T = weights(OBJECTIVES[name], policy_T, s, c)
        assert torch.isfinite(loss)
        assert torch.isfinite(weight_T).all()
