"""Policy objectives as written formulas over sampled tokens' log-probabilities; `docs/objectives.md` has the table.

Each function returns the micro batch's share of the batch's loss (to minimise, so minus the papers' J). Nobody trains
through them: the trainer needs weight_T = -dL/dlogp_T, which autograd reads off the formula. `c` has the numbers:
clip_low and clip_high (distances from 1), tis_cap (absolute), kl_beta, max_tokens. A_i is `advantage_S`, a constant.

Notation: r_t = pi(o_t)/pi_old(o_t) per token, N = `sequences` of the whole batch. The papers' 1/G per prompt averaged
over prompts is 1/N over all sequences when every prompt has G of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dokja.train.objectives.samples import MAX_LOG_RATIO, Samples, ratio


def rloo(logp_T: Tensor, s: Samples, c: Any) -> Tensor:
    """RLOO: -1/N sum_i A_i log pi(o_i), the plain policy gradient of whole sequences; no ratio, no clip.

    Its KL belongs into the reward (`advantage.kl_in_reward`). Source: Ahmadian et al. 2024, arXiv 2402.14740.
    """
    return -(s.need("advantage_S") * s.total(logp_T)).sum() / s.count("sequences")


def grpo(logp_T: Tensor, s: Samples, c: Any) -> Tensor:
    """GRPO: clipped token terms, averaged within each sequence, then over sequences, plus kl_beta * k3 per token.

    Source: Shao et al. 2024 (DeepSeekMath), arXiv 2402.03300, equations 3 and 4.
    """
    loss_T = clipped_term(logp_T - s.need("old_T"), s.need("advantage_S")[s.sequence_T], c)
    if c.kl_beta > 0:
        loss_T = loss_T + c.kl_beta * k3(logp_T, s.need("ref_T"))
    return s.mean(loss_T).sum() / s.count("sequences")


def dr_grpo(logp_T: Tensor, s: Samples, c: Any) -> Tensor:
    """Dr. GRPO: GRPO's clipped term summed over tokens and divided by the constant N * max_tokens; no KL.

    Source: Liu et al. 2025, arXiv 2503.20783, section 3.2 (the 1/|o_i| and the std of GRPO are the biases it removes).
    """
    loss_T = clipped_term(logp_T - s.need("old_T"), s.need("advantage_S")[s.sequence_T], c)
    return loss_T.sum() / (s.count("sequences") * c.max_tokens)


def dapo(logp_T: Tensor, s: Samples, c: Any) -> Tensor:
    """DAPO: the clipped term with a higher upper bound ("clip-higher"), mean over all tokens of the batch; no KL.

    Dynamic sampling and the soft overlong punishment are not in the loss. Source: Yu et al. 2025, arXiv 2503.14476,
    equation 8.
    """
    loss_T = clipped_term(logp_T - s.need("old_T"), s.need("advantage_S")[s.sequence_T], c)
    return loss_T.sum() / s.count("tokens")


def gspo(logp_T: Tensor, s: Samples, c: Any) -> Tensor:
    """GSPO: one length-normalised ratio per sequence, clipped; its gradient reaches all the sequence's tokens equally.

    Source: Zheng et al. 2025, arXiv 2507.18071, equations 5 to 7.
    """
    log_ratio_S = s.mean(logp_T - s.need("old_T"))
    return clipped_term(log_ratio_S, s.need("advantage_S"), c).sum() / s.count("sequences")


def cispo(logp_T: Tensor, s: Samples, c: Any) -> Tensor:
    """CISPO: the capped ratio is a constant weight, so no token loses its gradient; mean over all tokens of the batch.

    The cap is 1 + clip_high; there is no lower one, as the authors ran it. Source: MiniMax 2025 (MiniMax-M1), arXiv
    2506.13585, equations 4 and 5.
    """
    weight_T = ratio(logp_T - s.need("old_T")).clamp(max=1 + c.clip_high).detach()
    return -(weight_T * s.need("advantage_S")[s.sequence_T] * logp_T).sum() / s.count("tokens")


def agapo_sequence(logp_T: Tensor, s: Samples, c: Any) -> Tensor:
    """AGAPO as EXAONE 4.0 writes it: -1/N sum_i (A_i log pi(o_i) - kl_beta KL_i), sequence-level cumulative KL.

    KL_i = 1/2 Delta_i^2 with Delta_i = log pi(o_i) - log pi_ref(o_i). The plain estimate Delta_i has the right value
    but E[grad Delta_i] = E[grad log pi] = 0, so it would regularise nothing; half its square has on-policy
    E[grad] = E[Delta_i grad log pi(o_i)], which is grad KL(pi || pi_ref). Source: LG AI Research 2025 (EXAONE 4.0),
    arXiv 2507.11407, equations 1 and 2.
    """
    gain_S = s.need("advantage_S") * s.total(logp_T)
    if c.kl_beta > 0:
        gain_S = gain_S - c.kl_beta * s.total(logp_T - s.need("ref_T")).square() / 2
    return -gain_S.sum() / s.count("sequences")


def agapo_token(logp_T: Tensor, s: Samples, c: Any) -> Tensor:
    """AGAPO as K-EXAONE writes it: truncated importance sampling against the rollout policy, 1/|o_i|, then 1/N; no KL.

    Source: LG AI Research 2026 (K-EXAONE), arXiv 2601.01739, section on reinforcement learning.
    """
    weight_T = ratio(logp_T - s.need("old_T")).clamp(max=c.tis_cap).detach()
    return -(s.need("advantage_S") * s.mean(weight_T * logp_T)).sum() / s.count("sequences")


def clipped_term(log_ratio: Tensor, advantage: Tensor, c: Any) -> Tensor:
    """-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), elementwise over tokens or sequences."""
    r = ratio(log_ratio)
    return -torch.minimum(r * advantage, r.clamp(1 - c.clip_low, 1 + c.clip_high) * advantage)


def k3(logp_T: Tensor, ref_T: Tensor) -> Tensor:
    """rho - log rho - 1 with rho = pi_ref/pi: never negative, unbiased for KL(pi || ref) in value (not in gradient).

    Source: Schulman 2020, "Approximating KL divergence"; GRPO's equation 4. Above e^20 it is cut as a whole, since
    cutting the exponential alone would leave -log rho and push the wrong way.
    """
    log_rho_T = (ref_T - logp_T).clamp(max=MAX_LOG_RATIO)
    return log_rho_T.exp() - log_rho_T - 1


def clipped(name: str, logp_T: Tensor, s: Samples, c: Any) -> Tensor:
    """Which tokens the objective `name` holds back (bool [T]): clipped to no gradient, or their weight at its cap."""
    if name in {"rloo", "agapo_sequence"}:
        return torch.zeros_like(s.sequence_T, dtype=torch.bool)
    log_ratio_T = logp_T.detach() - s.need("old_T")
    if name == "gspo":
        log_ratio_T = s.mean(log_ratio_T)[s.sequence_T]
    r_T = ratio(log_ratio_T)
    if name in {"cispo", "agapo_token"}:
        return r_T > (1 + c.clip_high if name == "cispo" else c.tis_cap)
    advantage_T = s.need("advantage_S")[s.sequence_T]
    return ((r_T < 1 - c.clip_low) & (advantage_T < 0)) | ((r_T > 1 + c.clip_high) & (advantage_T > 0))


POLICY: dict[str, Callable[[Tensor, Samples, Any], Tensor]] = {
    "rloo": rloo,
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "dapo": dapo,
    "gspo": gspo,
    "cispo": cispo,
    "agapo_sequence": agapo_sequence,
    "agapo_token": agapo_token,
}
