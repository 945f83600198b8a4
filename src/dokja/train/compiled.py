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
from dokja.model.loss import linear_cross_entropy, target_logp


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

    def _hidden(self, tokens: np.ndarray, docs: np.ndarray) -> Tensor:
        block = compiled_block() if self.compiled else decoder.block_forward
        return self.model.hidden(self._put(tokens), self._put(docs), self.dtype, block).flatten(0, 1)

    def _put(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def backward(self, tokens: np.ndarray, docs: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
        """Adds this micro batch's gradients; arrays are [rows, L]. Returns the summed -log p in nats."""
        x, target, weight = self._hidden(tokens, docs), self._put(targets).flatten(), self._put(weights).flatten()
        loss, logp = linear_cross_entropy(x, self.model.head_weight, target, weight, self.compiled)
        loss.backward()
        return -float(logp.sum())

    @torch.no_grad()
    def nats(self, tokens: np.ndarray, docs: np.ndarray, targets: np.ndarray) -> float:
        """Summed negative log-likelihood of the targets of [rows, L] arrays, without gradients."""
        x = self._hidden(tokens, docs)
        return -float(target_logp(x, self.model.head_weight, self._put(targets).flatten()).sum())
