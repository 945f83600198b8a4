"""Forward and backward of one micro batch, compiled layer by layer where a compiler is there.

Only two programs are compiled for a whole model (a local layer and a global one), plus the loss chunk: a layer is
one function of its weights. Shapes are fixed, so nothing is compiled twice.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dokja.model import attention, block
from dokja.model.decoder import Decoder
from dokja.model.loss import linear_cross_entropy, target_logp

Weights = np.ndarray | Callable[[Tensor], Tensor]


def can_compile(device: torch.device) -> bool:
    """torch.compile needs a C++ compiler on CPU; on a GPU Triton comes with torch."""
    return device.type == "cuda" or bool(shutil.which("g++") or shutil.which("clang++"))


@functools.cache
def compiled_block() -> Any:
    """The compiled layer function, shared by all models of the process."""
    return torch.compile(block.block_forward, dynamic=False)


class Runner:
    """A model with its compute dtype; `rows` rows make a micro batch."""

    def __init__(self, model: Decoder, dtype: torch.dtype, compile: bool = True, rows: int = 1):
        self.model, self.dtype, self.rows = model, dtype, max(1, rows)
        self.device = next(model.parameters()).device
        self.compiled = compile and can_compile(self.device)
        torch._dynamo.config.cache_size_limit = 64
        attention.prepare(self.device)

    def _hidden(self, tokens: np.ndarray, docs: np.ndarray) -> Tensor:
        tokens_BL = self._put(tokens)
        run_block = compiled_block() if self.compiled else block.block_forward
        x = self.model.embedded(tokens_BL, self.dtype)
        return self.model.stack(x, self.model.rows(tokens_BL, self._put(docs)), run_block).flatten(0, 1)

    def _put(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def backward(self, tokens: np.ndarray, docs: np.ndarray, targets: np.ndarray, weights: Weights) -> float:
        """Adds this micro batch's gradients of -sum(weight * log p); arrays are [rows, L].

        Weights that depend on the log-probabilities themselves come from a function of them, over the flattened
        rows; it is called between the layers and the loss, so the layers still run once. Returns the summed -log p.
        """
        x, target = self._hidden(tokens, docs), self._put(targets).flatten()
        if callable(weights):
            weight = weights(target_logp(x, self.model.head_weight, target))
        else:
            weight = self._put(weights).flatten()
        loss, logp = linear_cross_entropy(x, self.model.head_weight, target, weight, self.compiled)
        loss.backward()
        return -float(logp.sum())

    @torch.no_grad()
    def logp(self, tokens: np.ndarray, docs: np.ndarray, targets: np.ndarray) -> Tensor:
        """log p of the targets of [rows, L] arrays, flattened (0 where there is none), without gradients."""
        return target_logp(self._hidden(tokens, docs), self.model.head_weight, self._put(targets).flatten())

    def nats(self, tokens: np.ndarray, docs: np.ndarray, targets: np.ndarray) -> float:
        """Summed negative log-likelihood of the targets of [rows, L] arrays, without gradients."""
        return -float(self.logp(tokens, docs, targets).sum())
