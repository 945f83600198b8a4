"""Sums and means per sequence, and what a forgotten field says."""

import pytest
import torch

from dokja.train.objectives.policy import grpo
from dokja.train.objectives.preference import dpo
from dokja.train.objectives.samples import Samples, ratio


def test_totals_and_means_follow_the_labels_in_any_order() -> None:
    s = Samples(sequence_T=torch.tensor([2, 0, 2, 0, 2]), length_S=torch.tensor([2.0, 0.0, 3.0]))
    x_T = torch.tensor([1.0, 10.0, 2.0, 20.0, 6.0])
    assert s.total(x_T).tolist() == [30.0, 0.0, 9.0]
    assert s.mean(x_T).tolist() == [15.0, 0.0, 3.0]


def test_gradients_reach_every_token_through_a_mean() -> None:
    s = Samples(sequence_T=torch.tensor([1, 0, 1]), length_S=torch.tensor([1.0, 2.0]))
    x_T = torch.zeros(3, requires_grad=True)
    (s.mean(x_T) * torch.tensor([3.0, 5.0])).sum().backward()
    assert x_T.grad.tolist() == [2.5, 3.0, 2.5]


def test_a_ratio_is_exact_until_it_is_bounded_and_never_overflows() -> None:
    log_ratio = torch.tensor([-1e4, -3.0, 0.0, 3.0, 1e4])
    assert torch.equal(ratio(log_ratio)[:4], log_ratio[:4].exp())
    assert torch.isfinite(ratio(log_ratio)).all()


def test_a_forgotten_field_is_named(drawn, c) -> None:
    bare = Samples(drawn.s.sequence_T, drawn.s.length_S, advantage_S=drawn.s.advantage_S, chosen_P=drawn.s.chosen_P)
    with pytest.raises(ValueError, match=r"Samples\.old_T"):
        grpo(drawn.logp_T(), bare, c)
    with pytest.raises(ValueError, match=r"Samples\.ref_T"):
        dpo(drawn.logp_T(), bare, c)


def test_a_forgotten_count_is_named(drawn, c) -> None:
    s = Samples(drawn.s.sequence_T, drawn.s.length_S, old_T=drawn.s.old_T, ref_T=drawn.s.ref_T,
                advantage_S=drawn.s.advantage_S)  # fmt: skip
    with pytest.raises(ValueError, match=r"Samples\.sequences"):
        grpo(drawn.logp_T(), s, c)
