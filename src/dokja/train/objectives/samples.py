"""What an objective sees of a micro batch: tokens' log-probabilities, and the sequences and pairs they belong to.

Suffixes: T tokens the policy chose in the micro batch, S sequences, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# e^20 is 5e8. A token whose ratio is larger could not have been drawn by the other policy, so the ratio says nothing
# about learning; unbounded it overflows fp32 (from e^89 on) and 0 * inf turns a masked token into NaN. Only the upper
# side is cut, and there the gradient is zero: e^-100 is a harmless 0, and cutting below would switch off the KL's pull.
MAX_LOG_RATIO = 20.0


def ratio(log_ratio: Tensor) -> Tensor:
    """exp(log_ratio) that never overflows: bounded by e^`MAX_LOG_RATIO`, any shape."""
    return log_ratio.clamp(max=MAX_LOG_RATIO).exp()


@dataclass(frozen=True)
class Samples:
    """Whole sequences of one micro batch; prompt tokens and tokens the policy did not choose itself are not among T."""

    sequence_T: Tensor  # int64, the sequence of each token, 0..S-1, in any order
    length_S: Tensor  # fp32, |o_i|: how many of the T tokens are the sequence's
    old_T: Tensor | None = None  # fp32, log pi_old: what the sampling engine reported
    ref_T: Tensor | None = None  # fp32, log pi_ref
    advantage_S: Tensor | None = None  # fp32; policy objectives and GROUPER
    chosen_P: Tensor | None = None  # int64, the better answer of each pair, an index into S
    rejected_P: Tensor | None = None  # int64, the worse one
    desirable_S: Tensor | None = None  # bool; KTO
    mismatched_S: Tensor | None = None  # bool; KTO: answers to another prompt, they estimate z0 and bear no loss
    sequences: int = 0  # sequences that bear a loss in the WHOLE batch, so that shares of micro batches add up to it
    tokens: int = 0  # their tokens in the whole batch
    pairs: int = 0  # pairs of the whole batch

    def total(self, x_T: Tensor) -> Tensor:
        """Sum over each sequence's tokens: [T] -> [S], differentiable, in the order of T."""
        return torch.zeros_like(self.length_S, dtype=x_T.dtype).index_add(0, self.sequence_T, x_T)

    def mean(self, x_T: Tensor) -> Tensor:
        """Mean over each sequence's tokens: [T] -> [S]; 0 for a sequence without tokens."""
        return self.total(x_T) / self.length_S.clamp(min=1)

    def need(self, field: str) -> Tensor:
        """The tensor of that name; ValueError if the caller left it out."""
        value = getattr(self, field)
        if value is None:
            raise ValueError(f"this objective needs Samples.{field}: fill it before calling the loss")
        return value

    def count(self, field: str) -> int:
        """The whole batch's number of sequences, tokens or pairs; ValueError if the caller left it at 0."""
        value = int(getattr(self, field))
        if value < 1:
            raise ValueError(f"this objective divides by Samples.{field}: set it to the count of the whole batch")
        return value
