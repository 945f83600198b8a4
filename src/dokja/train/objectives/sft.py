"""Supervised fine-tuning on conversations: the targets are what the assistant says, in both modes together."""

from __future__ import annotations

from dokja.data.batch import Batch
from dokja.train.objectives.language import Language


class Sft(Language):
    """As `Language`, over the assistant's tokens only; bits per byte say little there and are left out."""

    def metrics(self, nats: float, batch: Batch) -> dict[str, float]:
        """Nothing beyond the loss."""
        return {}
