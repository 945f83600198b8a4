"""Speculation: a drafter proposes how each sequence goes on, and one pass over all proposals says which were right.

    step   propose d1..dk ──► verify [newest, d1..dk] in one pass ──► draw k+1 tokens ──► keep those up to the first
                                                                                          that is not the draft

What is drawn at a place depends on its scores, seed and position alone, never on a draft; the scores behind a refused
draft are thrown away. So answers are those of plain decoding, greedy and sampled, whatever a drafter proposes
(arXiv 2211.17192 accepts by chance instead, which keeps the distribution but not the answer). An accepted token costs a
row of a pass that was due anyway; a refused one has cost that row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from dokja.engine.forward import Forward
from dokja.engine.running import Running
from dokja.errors import ConfigError


class Drafter(Protocol):
    """Who proposes tokens. It may look at the texts, at the caches, or at anything else that is cheap."""

    depth: int
    """The most tokens that it proposes for a sequence."""

    def propose(self, running: Sequence[Running], last_B: Tensor, position_B: Tensor, longest: int) -> Tensor:
        """Drafts [B, d] that go on after last_B, the newest token of each sequence, at position_B; d may be less than
        `depth`, and 0 where nothing can be foreseen.

        `longest`: tokens of the longest sequence, `depth` drafts included.
        """
        ...


class MtpDrafter:
    """The model's own multi-token head, its one layer repeated for every further token (as K-EXAONE 2.0 is served)."""

    def __init__(self, forward: Forward, depth: int):
        """Raises ConfigError where the model has no such head."""
        if forward.spec.mtp is None:
            raise ConfigError(
                f"draft = {depth} needs a model with a multi-token head, and this one has none. Leave draft out, or "
                "train one with [model.mtp] in its recipe."
            )
        self._forward, self.depth = forward, depth

    def propose(self, running: Sequence[Running], last_B: Tensor, position_B: Tensor, longest: int) -> Tensor:
        """See `Drafter`."""
        return self._forward.draft(last_B, position_B, longest, self.depth)
