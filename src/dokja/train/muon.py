"""Muon: momentum, then the nearest (semi-)orthogonal matrix, for the hidden matrices.

Why not torch.optim.Muon: it takes one matrix at a time, and a small model has dozens of small ones, so that a step
spends its time starting kernels. Here matrices of equal shape go through Newton-Schulz as one batch, and fused
parameters (q, k, v side by side) are taken apart first, since orthogonalising them together would couple them.
Equal to torch.optim.Muon on every part (tested).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

NS_STEPS = 5
NS = (3.4445, -4.7750, 2.0315)
"""Quintic coefficients of the iteration, K. Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon)."""


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


class Muon:
    """Nesterov momentum + orthogonalisation over `(parameter, row splits)` pairs; decoupled weight decay.

    The update is scaled by sqrt(max(1, rows / columns)), the original rule, so one rate fits every shape.
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
        by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        for (p, splits), buffer in zip(self.parameters, self.buffers, strict=True):
            assert p.grad is not None
            buffer.lerp_(p.grad, 1 - self.momentum)
            update = p.grad.lerp(buffer, self.momentum)
            if self.weight_decay:
                p.mul_(1 - lr * self.weight_decay)
            for part, target in zip(update.split(splits), p.split(splits), strict=True):
                by_shape.setdefault((part.shape[0], part.shape[1]), []).append((part, target))
        for (rows, columns), pairs in by_shape.items():
            flat = orthogonalise(torch.stack([part for part, _ in pairs]), self.dtype)
            scale = lr * max(1.0, rows / columns) ** 0.5
            for (_, target), update in zip(pairs, flat, strict=True):
                target.add_(update.to(target.dtype), alpha=-scale)
