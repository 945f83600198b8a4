"""Next-token prediction: every target token counts the same."""

from __future__ import annotations

import math

import numpy as np


class Language:
    """Weights and metrics of pretraining and context extension."""

    def __init__(self, bytes_of_token: np.ndarray):
        """bytes_of_token [V]: raw UTF-8 bytes a token stands for (0 for special tokens)."""
        self.bytes_of_token = bytes_of_token

    def weights(self, targets: np.ndarray, total: int) -> np.ndarray:
        """targets [..] with negative = no target -> fp32 weights that sum to 1 over a batch of `total` targets."""
        return (targets >= 0).astype(np.float32) / np.float32(max(total, 1))

    def metrics(self, nats: float, targets: np.ndarray) -> dict[str, float]:
        """Bits per byte of the text behind `targets`, from their summed negative log-likelihood in nats."""
        n_bytes = int(self.bytes_of_token[targets[targets >= 0]].sum())
        return {"bits_per_byte": nats / math.log(2) / n_bytes} if n_bytes else {}
