"""Shared by the tests of the objectives: a small batch of every kind, drawn from a tiny softmax model, in fp64."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from dokja.train.objectives.samples import Samples

VOCAB = 5
LENGTHS = [3, 1, 4, 2, 5, 2]


@dataclass
class Drawn:
    """A bigram policy (logits of the next token by the one before) and six answers it may have written."""

    logits_VV: Tensor  # the parameters, leaf
    before_T: Tensor
    token_T: Tensor
    s: Samples

    def logp_T(self) -> Tensor:
        return self.logits_VV.log_softmax(-1)[self.before_T, self.token_T]


@pytest.fixture
def c() -> SimpleNamespace:
    """Every number an objective may read, none of them a neutral one."""
    return SimpleNamespace(
        clip_low=0.2, clip_high=0.3, tis_cap=1.4, kl_beta=0.07, max_tokens=9,
        beta=0.6, gamma=0.4, weight=0.35, desirable_weight=1.3, undesirable_weight=0.8,
    )  # fmt: skip


@pytest.fixture
def drawn() -> Drawn:
    """Six answers of unequal length; three pairs, one of them between groups; two of six only estimate KTO's z0."""
    g = torch.Generator().manual_seed(11)
    sequence_T = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    tokens = len(sequence_T)
    logits_VV = torch.randn(VOCAB, VOCAB, generator=g, dtype=torch.float64).requires_grad_()
    before_T = torch.randint(VOCAB, (tokens,), generator=g)
    token_T = torch.randint(VOCAB, (tokens,), generator=g)
    logp_T = logits_VV.detach().log_softmax(-1)[before_T, token_T]
    s = Samples(
        sequence_T=sequence_T,
        length_S=torch.tensor(LENGTHS, dtype=torch.float64),
        # far enough from the policy that some ratios are clipped on either side, near enough that others are not
        old_T=logp_T + 0.5 * torch.randn(tokens, generator=g, dtype=torch.float64),
        ref_T=logp_T - 0.3 + 0.5 * torch.randn(tokens, generator=g, dtype=torch.float64),
        advantage_S=torch.tensor([1.1, -0.7, 0.4, -1.3, -0.2, 0.9], dtype=torch.float64),
        chosen_P=torch.tensor([0, 3, 5]),
        rejected_P=torch.tensor([1, 2, 4]),
        desirable_S=torch.tensor([True, False, True, False, True, False]),
        mismatched_S=torch.tensor([False, False, False, False, True, True]),
        sequences=len(LENGTHS),
        tokens=tokens,
        pairs=3,
    )
    return Drawn(logits_VV, before_T, token_T, s)


@pytest.fixture
def part():
    """A function that cuts the sequences `kept` (and the pairs among them) out of a batch, its counts unchanged."""

    def cut(logp_T: Tensor, s: Samples, kept: list[int]) -> tuple[Tensor, Samples]:
        new = {old: i for i, old in enumerate(kept)}
        token = torch.tensor([int(q) in new for q in s.sequence_T])
        pair = [p for p, w in enumerate(s.chosen_P.tolist()) if w in new and int(s.rejected_P[p]) in new]
        micro = replace(
            s,
            sequence_T=torch.tensor([new[int(q)] for q in s.sequence_T[token]], dtype=torch.int64),
            chosen_P=torch.tensor([new[int(s.chosen_P[p])] for p in pair], dtype=torch.int64),
            rejected_P=torch.tensor([new[int(s.rejected_P[p])] for p in pair], dtype=torch.int64),
            **{f: getattr(s, f)[token] for f in ("old_T", "ref_T")},
            **{f: getattr(s, f)[kept] for f in ("length_S", "advantage_S", "desirable_S", "mismatched_S")},
        )
        return logp_T[token], micro

    return cut


@pytest.fixture
def weights():
    """A function that reads weight_T = -dL/dlogp_T off a formula, as the trainer does; returns (loss, weight_T)."""

    def read(formula, logp_T: Tensor, s: Samples, c) -> tuple[Tensor, Tensor]:
        leaf_T = logp_T.detach().requires_grad_()
        loss = formula(leaf_T, s, c)
        return loss.detach(), -torch.autograd.grad(loss, leaf_T)[0]

    return read
