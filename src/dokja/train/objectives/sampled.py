"""Preference and policy objectives for the loop: a formula over log-probabilities becomes weights of tokens.

The formula L is evaluated on the log-probabilities of a micro batch, and the weights are -dL/dlogp: a few thousand
numbers of autograd. The model's own gradient is then that of -sum(weight * logp), as for every other objective.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dokja.train.compiled import Runner, Weights
from dokja.train.objectives.policy import POLICY, clipped
from dokja.train.objectives.preference import PREFERENCE, implicit_reward
from dokja.train.objectives.samples import Samples, ratio
from dokja.train.rollouts.layout import SampleBatch

Loss = Callable[[Tensor, Samples, Any], Tensor]


class SampledObjective:
    """One of the formulas in `policy` and `preference`, with the recipe's section as its constants."""

    def __init__(self, name: str, config: Any, reference: Runner | None = None):
        """`reference` runs the frozen model that log pi_ref is taken from, for the formulas that need one."""
        self.name, self.config, self.reference = name, config, reference
        self.loss: Loss = {**POLICY, **PREFERENCE}[name]
        self._sums: dict[str, float] = {}

    def weights(self, batch: SampleBatch, total: int) -> Callable[[slice], Weights]:
        """-> a function of rows: their weights as a function of their log-probabilities."""
        self._sums = {}
        return lambda rows: lambda logp_N: self._weigh(batch, rows, logp_N)

    def metrics(self, nats: float, batch: SampleBatch) -> dict[str, float]:
        """The answers' figures, the loss of the formula, and how far the trainer is from engine and reference."""
        sums, n = self._sums, max(batch.targets, 1)
        out = {**batch.stats, "loss": sums.get("loss", 0.0)}
        for name in ("old_kl", "kl_ref", "clipped"):
            if name in sums:
                out[name] = sums[name] / n
        # against the sampling engine: with its own weights a mismatch of arithmetic, afterwards how far we have gone
        if "old_kl" in out:
            out["mismatch_kl" if batch.fresh else "policy_kl"] = out.pop("old_kl")
        if batch.fresh and "old_max" in sums:
            out["mismatch_max"] = sums["old_max"]
        if batch.pairs:
            for name in ("margin", "accuracy", "chosen_logp", "rejected_logp"):
                out[name] = sums.get(name, 0.0) / batch.pairs
        return out

    def _weigh(self, batch: SampleBatch, rows: slice, logp_N: Tensor) -> Tensor:
        sequence_N = torch.from_numpy(batch.sequence_BL[rows]).to(logp_N.device).flatten()
        here_T = (sequence_N >= 0).nonzero()[:, 0]
        weight_N = torch.zeros_like(logp_N)
        if not len(here_T):
            return weight_N
        ref_N = None
        if self.reference is not None:
            ref_N = self.reference.logp(batch.tokens_BL[rows], batch.docs_BL[rows], batch.targets_BL[rows])
        s = micro_samples(batch, rows, here_T, ref_N)
        with torch.enable_grad():
            logp_T = logp_N[here_T].detach().requires_grad_()
            loss = self.loss(logp_T, s, self.config)
            (slope_T,) = torch.autograd.grad(loss, logp_T)
        weight_N[here_T] = -slope_T
        self._note(loss.detach(), logp_T.detach(), s)
        return weight_N

    def _note(self, loss: Tensor, logp_T: Tensor, s: Samples) -> None:
        def add(name: str, value: Tensor | float) -> None:
            self._sums[name] = self._sums.get(name, 0.0) + float(value)

        add("loss", loss)
        if s.old_T is not None:
            difference_T = logp_T - s.old_T
            # KL(old || trainer) on the old policy's own samples, Schulman's k3: unbiased, never negative
            add("old_kl", (ratio(difference_T) - 1 - difference_T).double().sum())
            worst = float(difference_T.abs().max())
            self._sums["old_max"] = max(worst, self._sums.get("old_max", 0.0))
        if s.ref_T is not None:
            add("kl_ref", (logp_T - s.ref_T).double().sum())
        if self.name in POLICY:
            add("clipped", clipped(self.name, logp_T, s, self.config).sum())
        if s.chosen_P is not None and s.rejected_P is not None:
            mean_S, own_S = s.mean(logp_T), implicit_reward(self.name, logp_T, s, self.config)
            add("chosen_logp", mean_S[s.chosen_P].sum())
            add("rejected_logp", mean_S[s.rejected_P].sum())
            add("margin", (mean_S[s.chosen_P] - mean_S[s.rejected_P]).sum())
            add("accuracy", (own_S[s.chosen_P] > own_S[s.rejected_P]).sum())


def micro_samples(batch: SampleBatch, rows: slice, here_T: Tensor, ref_N: Tensor | None) -> Samples:
    """The sequences whose tokens lie in `rows`, numbered anew from 0; `here_T` are their places in the flat rows."""
    device = here_T.device

    def put(array: Any) -> Tensor:
        return torch.as_tensor(array, device=device)

    own_T = put(batch.sequence_BL[rows].reshape(-1))[here_T]
    present_S, sequence_T, length_S = own_T.unique(return_inverse=True, return_counts=True)
    given = {k: put(v) for k, v in batch.of_sequence.items()}
    fields: dict[str, Any] = {}
    if "advantage" in given:
        fields["advantage_S"] = given["advantage"][present_S].float()
    for name in ("desirable", "mismatched"):
        if name in given:
            fields[f"{name}_S"] = given[name][present_S]
    if "chosen" in given:
        here_P = torch.isin(given["chosen"], present_S)
        chosen_P, rejected_P = given["chosen"][here_P], given["rejected"][here_P]
        if not bool(torch.isin(rejected_P, present_S).all()):
            raise ValueError("the two answers of a pair lie in different micro batches: lay them out as one unit")
        fields["chosen_P"] = torch.searchsorted(present_S, chosen_P)
        fields["rejected_P"] = torch.searchsorted(present_S, rejected_P)
    return Samples(
        sequence_T=sequence_T,
        length_S=length_S.float(),
        old_T=put(batch.old_BL[rows].reshape(-1))[here_T],
        ref_T=None if ref_N is None else ref_N[here_T],
        sequences=batch.sequences,
        tokens=batch.targets,
        pairs=batch.pairs,
        **fields,
    )
