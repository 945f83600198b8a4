"""Forward and backward of one micro batch, compiled layer by layer where a compiler is there.

Only two programs are compiled for a whole model (a local layer and a global one), plus the loss chunk: a layer is
one function of its weights. Shapes are fixed, so nothing is compiled twice.
"""

from __future__ import annotations

import functools
import shutil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dokja.model import attention, decoder
from dokja.model.decoder import Decoder
from dokja.model.loss import linear_cross_entropy


def can_compile(device: torch.device) -> bool:
    """torch.compile needs a C++ compiler on CPU; on a GPU Triton comes with torch."""
    return device.type == "cuda" or bool(shutil.which("g++") or shutil.which("clang++"))


@functools.cache
def compiled_block() -> Any:
    """The compiled layer function, shared by all models of the process."""
    return torch.compile(decoder.block_forward, dynamic=False)


class Runner:
    """A model with its compute dtype; `rows` rows make a micro batch."""

    def __init__(self, model: Decoder, dtype: torch.dtype, compile: bool = True, rows: int = 1):
        self.model, self.dtype, self.rows = model, dtype, max(1, rows)
        self.device = next(model.parameters()).device
        self.compiled = compile and can_compile(self.device)
        torch._dynamo.config.cache_size_limit = 64
        attention.prepare(self.device)

    def _loss(
        self, tokens: np.ndarray, docs: np.ndarray, targets: np.ndarray, weights: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        t, d, y, w = (torch.from_numpy(a).to(self.device, non_blocking=True) for a in (tokens, docs, targets, weights))
        block = compiled_block() if self.compiled else decoder.block_forward
        x = self.model.hidden(t, d, self.dtype, block)
        return linear_cross_entropy(x.flatten(0, 1), self.model.head_weight, y.flatten(), w.flatten(), self.compiled)

    def backward(self, tokens: np.ndarray, docs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
        """Adds this micro batch's gradients; arrays are [rows, L]. Returns the summed -log p in nats."""
        loss, logp = self._loss(tokens, docs, targets, weights)
        loss.backward()
        return -float(logp.sum())

    @torch.no_grad()
    def nats(self, tokens: np.ndarray, docs: np.ndarray, targets: np.ndarray) -> float:
        """Summed negative log-likelihood of the targets of [rows, L] arrays, without gradients."""
        weights = np.zeros(targets.shape, dtype=np.float32)
        return -float(self._loss(tokens, docs, targets, weights)[1].sum())
