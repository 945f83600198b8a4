"""Next-token prediction: every target token counts the same."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from dokja.data.batch import Batch


class Language:
    """Weights and metrics of pretraining and context extension."""

    def __init__(self, bytes_of_token: np.ndarray):
        """bytes_of_token [V]: raw UTF-8 bytes a token stands for (0 for special tokens)."""
        self.bytes_of_token = bytes_of_token

    def weights(self, batch: Batch, total: int) -> Callable[[slice], np.ndarray]:
        """-> a function of rows: fp32 weights [rows, L] that sum to 1 over a batch of `total` targets."""
        weights_BL = (batch.targets_BL >= 0).astype(np.float32) / np.float32(max(total, 1))
        return lambda rows: weights_BL[rows]

    def metrics(self, nats: float, batch: Batch) -> dict[str, float]:
        """Bits per byte of the text behind the targets, from their summed negative log-likelihood in nats."""
        n_bytes = int(self.bytes_of_token[batch.targets_BL[batch.targets_BL >= 0]].sum())
        return {"bits_per_byte": nats / math.log(2) / n_bytes} if n_bytes else {}
