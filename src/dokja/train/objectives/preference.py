"""Preference objectives as written formulas over the log-probabilities of answers; `docs/objectives.md` has the table.

Each function returns the micro batch's share of the batch's loss, like `policy.py`; the trainer takes
weight_T = -dL/dlogp_T. `c` has the numbers: beta, gamma, weight (ORPO's lambda), desirable_weight, undesirable_weight.

Notation: l(y) = sum_t log pi(y_t), lbar = l/|y|, Delta = l - l_ref; w the chosen answer of a pair, l the rejected one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from dokja.train.objectives.samples import Samples


def dpo(logp_T: Tensor, s: Samples, c: Any) -> Tensor:
    """DPO: -log sigmoid(beta (Delta_w - Delta_l)), mean over pairs.

    Source: Rafailov et al. 2023, arXiv 2305.18290, equation 7.
    """
    return -logsigmoid(c.beta * _gap(s.total(logp_T - s.need("ref_T")), s)).sum() / s.count("pairs")


def ipo(logp_T: Tensor, s: Samples, c: Any) -> Tensor:
    """IPO: (Delta_w/|w| - Delta_l/|l| - 1/(2 beta))^2, mean over pairs; beta is the paper's tau.

    Per-token averages of Delta, as TRL takes them (its authors report that the paper's results did too); the printed
    equation has sums. Source: Azar et al. 2023, arXiv 2310.12036, equation 17.
    """
    return (_gap(s.mean(logp_T - s.need("ref_T")), s) - 1 / (2 * c.beta)).square().sum() / s.count("pairs")


def simpo(logp_T: Tensor, s: Samples, c: Any) -> Tensor:
    """SimPO: -log sigmoid(beta (lbar_w - lbar_l) - gamma), mean over pairs; no reference.

    Source: Meng et al. 2024, arXiv 2405.14734, equation 6.
    """
    return -logsigmoid(c.beta * _gap(s.mean(logp_T), s) - c.gamma).sum() / s.count("pairs")


def orpo(logp_T: Tensor, s: Samples, c: Any) -> Tensor:
    """ORPO: -lbar_w - weight log sigmoid(log odds_w - log odds_l), odds = p/(1 - p) with p = exp(lbar); no reference.

    Mean over pairs; the first term is the chosen answer's own likelihood, each answer counting the same.
    Source: Hong et al. 2024, arXiv 2403.07691, equations 4 to 7.
    """
    mean_S = s.mean(logp_T)
    # p = 1 has infinite odds: held one part in a million below, where fp32 still has digits
    safe_S = mean_S.clamp(max=-1e-6)
    log_odds_S = safe_S - log_one_minus_exp(safe_S)
    loss_P = -mean_S[s.need("chosen_P")] - c.weight * logsigmoid(_gap(log_odds_S, s))
    return loss_P.sum() / s.count("pairs")


def kto(logp_T: Tensor, s: Samples, c: Any) -> Tensor:
    """KTO: lambda_D (1 - sigmoid(beta (Delta - z0))) if desirable, lambda_U (1 - sigmoid(beta (z0 - Delta))) if not.

    z0 = max(0, mean Delta of this micro batch's mismatched answers), a constant: an estimate of KL(pi || ref) (0 if
    there are none). Mean over `sequences`, which counts the others. As z0 is a micro batch's own, shares of micro
    batches add up only where z0 agrees. Source: Ethayarajh et al. 2024, arXiv 2402.01306, equations 7 and 8.
    """
    delta_S = s.total(logp_T - s.need("ref_T"))
    mismatched_S, desirable_S = s.need("mismatched_S"), s.need("desirable_S")
    others_S = delta_S.detach()[mismatched_S]
    z0 = others_S.mean().clamp(min=0) if len(others_S) else delta_S.new_zeros(())
    good_S = c.desirable_weight * torch.sigmoid(c.beta * (z0 - delta_S))
    bad_S = c.undesirable_weight * torch.sigmoid(c.beta * (delta_S - z0))
    return torch.where(desirable_S, good_S, bad_S)[~mismatched_S].sum() / s.count("sequences")


def simper(logp_T: Tensor, s: Samples, c: Any) -> Tensor:
    """SimPER: exp(lbar_l) - exp(lbar_w), inverse perplexities, mean over pairs; no beta, no reference, in (-1, 1).

    Source: Xiao et al. 2025, arXiv 2502.00883, section 3.
    """
    return -_gap(s.mean(logp_T).exp(), s).sum() / s.count("pairs")


def grouper(logp_T: Tensor, s: Samples, c: Any) -> Tensor:
    """GROUPER: -1/N sum_i A_i exp(lbar_i) with A from `advantage.grouper`; two answers are half of SimPER.

    Source: K-EXAONE, arXiv 2601.01739, section on preference learning.
    """
    return -(s.need("advantage_S") * s.mean(logp_T).exp()).sum() / s.count("sequences")


def implicit_reward(name: str, logp_T: Tensor, s: Samples, c: Any) -> Tensor:
    """What the objective `name` ranks answers by, [S]: a pair is right when the chosen answer's is larger."""
    if name in {"dpo", "kto"}:
        return c.beta * s.total(logp_T - s.need("ref_T"))
    if name == "ipo":
        return s.mean(logp_T - s.need("ref_T"))
    return s.mean(logp_T).exp() if name in {"simper", "grouper"} else s.mean(logp_T)


def log_one_minus_exp(x: Tensor) -> Tensor:
    """log(1 - e^x) for x < 0, exact near 0 and far from it (Maechler 2012, "Accurately computing log(1-exp(-|a|))")."""
    return torch.where(x > -math.log(2), (-x.expm1()).log(), (-x.exp()).log1p())


def _gap(x_S: Tensor, s: Samples) -> Tensor:
    """Chosen minus rejected, [P]."""
    return x_S[s.need("chosen_P")] - x_S[s.need("rejected_P")]


PREFERENCE: dict[str, Callable[[Tensor, Samples, Any], Tensor]] = {
    "dpo": dpo,
    "ipo": ipo,
    "simpo": simpo,
    "orpo": orpo,
    "kto": kto,
    "simper": simper,
    "grouper": grouper,
}

NEEDS_REFERENCE = frozenset({"dpo", "ipo", "kto"})
