"""Supervised fine-tuning on conversations: the targets are what the assistant says, in both modes together."""

from __future__ import annotations

import numpy as np

from dokja.train.objectives.language import Language


class Sft(Language):
    """As `Language`, over the assistant's tokens only; bits per byte say little there and are left out."""

    def metrics(self, nats: float, targets: np.ndarray) -> dict[str, float]:
        """Nothing beyond the loss."""
        return {}
