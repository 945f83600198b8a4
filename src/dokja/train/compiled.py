"""Forward and backward of one micro batch, compiled layer by layer where a compiler is there.

Only two programs are compiled for a whole model (a local layer and a global one; a third where a multi-token head
attends differently), plus the loss chunk: a layer is one function of its weights. Shapes are fixed, so nothing is
compiled twice.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dokja.model import attention, block
from dokja.model.block import BlockFn
from dokja.model.decoder import Decoder, Rows
from dokja.model.loss import linear_cross_entropy, target_logp
from dokja.model.moe import Routing
from dokja.model.mtp import two_ahead
from dokja.model.vision import HALVES, Halves, Images
from dokja.text.images import ImageConfig, patches
from dokja.train import distributed
from dokja.train.balance import Balance

Weights = np.ndarray | Callable[[Tensor], Tensor]
Shown = Sequence[Sequence[np.ndarray]] | None
"""For each row its images, uint8 [height, width, 3], in the order of their places; None for text alone."""


def can_compile(device: torch.device) -> bool:
    """torch.compile needs a C++ compiler on CPU; on a GPU Triton comes with torch."""
    return device.type == "cuda" or bool(shutil.which("g++") or shutil.which("clang++"))


@functools.cache
def compiled_block() -> Any:
    """The compiled layer function, shared by all models of the process."""
    return torch.compile(block.block_forward, dynamic=False)


@functools.cache
def compiled_halves() -> Halves:
    """The compiled halves of a vision block: for any number of patches, since batches show different images."""
    return torch.compile(HALVES[0], dynamic=True), torch.compile(HALVES[1], dynamic=True)


class Runner:
    """A model with its compute dtype; `rows` rows make a micro batch.

    `mtp_loss` is the weight of the loss two tokens ahead, for objectives whose weights are arrays; 0 leaves the
    multi-token head out altogether, and without gradients. `balance` keeps the load on experts even.
    """

    balance: Balance | None = None

    def __init__(self, model: Decoder, dtype: torch.dtype, compile: bool = True, rows: int = 1, mtp_loss: float = 0.0):
        self.model, self.dtype, self.rows, self.mtp_loss = model, dtype, max(1, rows), mtp_loss
        self._mtp_nats, self._mtp_targets = 0.0, 0
        self.device = next(model.parameters()).device
        self.compiled = compile and can_compile(self.device)
        torch._dynamo.config.cache_size_limit = 64
        attention.prepare(self.device)

    def _hidden(self, tokens: np.ndarray, docs: np.ndarray, shown: Shown = None) -> Tensor:
        return self._stack(tokens, docs, shown)[0].flatten(0, 1)

    def _stack(
        self, tokens: np.ndarray, docs: np.ndarray, shown: Shown, routings: list[Routing] | None = None
    ) -> tuple[Tensor, Tensor, Rows]:
        """Streams after the final norm and before the first layer, both [rows, L, D], and the layout."""
        tokens_BL = self._put(tokens)
        x = self.model.embedded(tokens_BL, self.dtype)
        if images := self._images(shown):
            halves = compiled_halves() if self.compiled else HALVES
            features = self.model.vision(images.values, images.grids, self.dtype, halves)
            x = self.model.placed(x, tokens_BL, features)
        rows = self.model.rows(tokens_BL, self._put(docs))
        return self.model.stack(x, rows, self._run_block, routings), x, rows

    def _images(self, shown: Shown) -> Images | None:
        pixels = [image for row in shown or () for image in row]
        if not pixels or self.model.spec.vision is None:
            return None
        config = ImageConfig.of(self.model.spec.vision)
        return Images.of([patches(image, config) for image in pixels], self.device)

    @property
    def _run_block(self) -> BlockFn:
        return compiled_block() if self.compiled else block.block_forward

    def _put(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def backward(
        self, tokens: np.ndarray, docs: np.ndarray, targets: np.ndarray, weights: Weights, shown: Shown = None
    ) -> float:
        """Adds this micro batch's gradients of -sum(weight * log p); arrays are [rows, L], `shown` the rows' images.

        Weights that depend on the log-probabilities themselves come from a function of them, over the flattened
        rows; it is called between the layers and the loss, so the layers still run once. Returns the summed -log p.
        """
        routings: list[Routing] = []
        hidden, embedded, rows = self._stack(tokens, docs, shown, routings)
        x, targets_BL = hidden.flatten(0, 1), self._put(targets)
        target = targets_BL.flatten()
        if callable(weights):
            weight = weights(target_logp(x, self.model.head_weight, target))
        else:
            weight = self._put(weights).flatten()
        loss, logp = linear_cross_entropy(x, self.model.head_weight, target, weight, self.compiled)
        if self.mtp_loss:
            weights_BL = weight.view(targets_BL.shape)
            ahead = self._two_ahead(hidden, embedded, rows, self._put(docs), targets_BL, weights_BL)
            loss = loss + self.mtp_loss * ahead
        if self.balance:
            loss = loss + self.balance.add(routings, self._put(docs))
        loss.backward()
        return -float(logp.sum())

    def _two_ahead(
        self, hidden: Tensor, embedded: Tensor, rows: Rows, docs_BL: Tensor, targets_BL: Tensor, weights_BL: Tensor
    ) -> Tensor:
        """-sum(weight * log p) of the tokens after the next, by the multi-token head."""
        mtp = self.model.mtp
        x = mtp(hidden, embedded, rows.rot, rows.seen[mtp.block.layer.window], self._run_block).flatten(0, 1)
        target, weight = (t.flatten() for t in two_ahead(docs_BL, targets_BL, weights_BL))
        loss, logp = linear_cross_entropy(x, self.model.head_weight, target, weight, self.compiled)
        self._mtp_nats -= float(logp.sum())
        self._mtp_targets += int((target >= 0).sum())
        return loss

    def report(self) -> dict[str, float]:
        """What there is to say of the micro batches since the last call besides their loss, over all processes:
        `mtp_nats`, the mean -log p of the tokens after the next, where they are learned, and the experts' load."""
        nats, targets = distributed.total(self._mtp_nats), distributed.total(self._mtp_targets)
        self._mtp_nats, self._mtp_targets = 0.0, 0
        balance = self.balance.report() if self.balance else {}
        return {**({"mtp_nats": nats / targets} if targets else {}), **balance}

    @torch.no_grad()
    def logp(self, tokens: np.ndarray, docs: np.ndarray, targets: np.ndarray, shown: Shown = None) -> Tensor:
        """log p of the targets of [rows, L] arrays, flattened (0 where there is none), without gradients."""
        return target_logp(self._hidden(tokens, docs, shown), self.model.head_weight, self._put(targets).flatten())

    def nats(self, tokens: np.ndarray, docs: np.ndarray, targets: np.ndarray, shown: Shown = None) -> float:
        """Summed negative log-likelihood of the targets of [rows, L] arrays, without gradients."""
        return -float(self.logp(tokens, docs, targets, shown).sum())
