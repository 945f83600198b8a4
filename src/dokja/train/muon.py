"""Muon: momentum, then the nearest (semi-)orthogonal matrix, for the hidden matrices.

Why not torch.optim.Muon: it takes one matrix at a time, and a small model has dozens of small ones, so that a step
spends its time starting kernels. Here matrices of equal shape go through Newton-Schulz as one batch, and fused
parameters (q, k, v side by side, experts behind each other) are taken apart first, since orthogonalising them together
would couple them. Equal to torch.optim.Muon on every part (tested). Batches are bounded, so a step needs little memory
beside the momentum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

import torch
from torch import Tensor, nn

NS_STEPS = 5
NS = (3.4445, -4.7750, 2.0315)
"""Quintic coefficients of the iteration, K. Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon)."""
BATCH = 1 << 24
"""Numbers in a batch of matrices; a larger matrix is a batch of its own."""


def orthogonalise(g: Tensor, dtype: torch.dtype = torch.bfloat16, eps: float = 1e-7) -> Tensor:
    """g[N,R,C] -> matrices with the same singular vectors and singular values near 1 (Newton-Schulz)."""
    a, b, c = NS
    x = g.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    for _ in range(NS_STEPS):
        xx = x @ x.mT
        x = a * x + (b * xx + c * (xx @ xx)) @ x
    return x.mT if tall else x


def matrices(tensor: Tensor, splits: Iterable[int]) -> list[Tensor]:
    """Views [N,R,C] of a tensor [..., C] whose rows are matrices of `splits` rows: neighbours of equal height together,
    and no more of them than a batch takes."""
    rows, at, out = tensor.flatten(0, -2), 0, []
    for height, run in groupby(splits):
        count = len(list(run))
        together = rows[at : at + count * height].unflatten(0, (count, height))
        out += together.split(max(1, BATCH // together[0].numel()))
        at += count * height
    return out


class Muon:
    """Nesterov momentum + orthogonalisation over `(parameter, row splits)` pairs; decoupled weight decay.

    A parameter may have more than two dimensions: all but the last are rows, and `splits` covers them. The update is
    scaled by sqrt(max(1, rows / columns)), the original rule, so one rate fits every shape.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[nn.Parameter, list[int]]],
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.bfloat16,
    ):
        self.parameters = list(parameters)
        self.momentum, self.weight_decay, self.dtype = momentum, weight_decay, dtype
        self.buffers = [torch.zeros_like(p) for p, _ in self.parameters]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update at rate `lr`, from the `.grad` of every parameter."""
        for shape, parts in self._batches():
            updates = []
            for target, grad, momentum in parts:
                momentum.lerp_(grad, 1 - self.momentum)
                updates.append(grad.lerp(momentum, self.momentum).to(self.dtype))
                if self.weight_decay:
                    target.mul_(1 - lr * self.weight_decay)
            batch = torch.cat(updates)
            del updates
            scale = lr * max(1.0, shape[0] / shape[1]) ** 0.5
            flat = orthogonalise(batch, self.dtype).split([len(target) for target, _, _ in parts])
            for (target, _, _), update in zip(parts, flat, strict=True):
                target.add_(update.to(target.dtype), alpha=-scale)

    def _batches(self) -> Iterator[tuple[tuple[int, int], list[tuple[Tensor, ...]]]]:
        """Matrices of one shape, with their gradients and momenta: (rows, columns) and views [N, rows, columns]."""
        by_shape: dict[tuple[int, int], list[tuple[Tensor, ...]]] = {}
        for (p, splits), buffer in zip(self.parameters, self.buffers, strict=True):
            assert p.grad is not None
            for part in zip(*(matrices(t, splits) for t in (p, p.grad, buffer)), strict=True):
                by_shape.setdefault((part[0].shape[1], part[0].shape[2]), []).append(part)
        for shape, parts in by_shape.items():
            batch: list[tuple[Tensor, ...]] = []
            for part in parts:
                if batch and sum(t.numel() for t, _, _ in [*batch, part]) > BATCH:
                    yield shape, batch
                    batch = []
                batch.append(part)
            yield shape, batch
