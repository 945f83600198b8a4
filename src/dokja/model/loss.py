"""Output matrix and cross entropy in one step, a chunk of rows at a time.

The scores of a long batch over a large vocabulary are the biggest tensor of a training step. Here they exist
for a chunk of rows only: the forward pass also computes the gradients (as Liger and Apple's cut cross entropy do),
and rows without a target are never multiplied at all, which halves the cost of supervised fine-tuning.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 2048
CHUNK_BYTES = 2**28
"""Most bytes of a chunk's fp32 scores; beyond 32,768 entries a vocabulary has fewer than `CHUNK` rows in one."""


def chunk_rows(vocab: int) -> int:
    """Rows whose scores exist at once: `CHUNK`, or the power of two that `CHUNK_BYTES` leaves a large vocabulary."""
    fits = max(1, CHUNK_BYTES // (4 * vocab))
    return min(CHUNK, 1 << (fits.bit_length() - 1))


def _chunk(
    x_TD: Tensor, w_VD: Tensor, target_T: Tensor, weight_T: Tensor, learn_w: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """-> log-probabilities of the targets [T], gradient of -sum(weight * logp) in x [T,D] and, if learned,
    in w [V,D]."""
    logits = F.linear(x_TD, w_VD).float()
    lse_T = logits.logsumexp(-1)
    logp_T = logits.gather(-1, target_T[:, None])[:, 0] - lse_T
    hit = torch.arange(w_VD.shape[0], device=x_TD.device) == target_T[:, None]
    grad = ((logits - lse_T[:, None]).exp() - hit.float()) * weight_T[:, None]
    grad = grad.to(x_TD.dtype)
    return logp_T, grad @ w_VD, grad.t() @ x_TD if learn_w else None


@functools.cache
def _compiled_chunk() -> Any:
    return torch.compile(_chunk, dynamic=False)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_TD: Tensor, w_VD: Tensor, target_T: Tensor, weight_T: Tensor, compiled: bool
    ) -> tuple[Tensor, Tensor]:
        run = _compiled_chunk() if compiled else _chunk
        w = w_VD.to(x_TD.dtype)
        rows = torch.nonzero(target_T >= 0)[:, 0]
        n, width, most = rows.numel(), x_TD.shape[1], chunk_rows(w_VD.shape[0])
        size = most if compiled else min(most, max(n, 1))
        padded = F.pad(rows, (0, -n % size))
        keep = torch.arange(padded.numel(), device=rows.device) < n
        x = x_TD.index_select(0, padded)
        target = target_T.index_select(0, padded).clamp(min=0)
        weight = torch.where(keep, weight_T.index_select(0, padded), 0.0)
        learn_w = bool(ctx.needs_input_grad[1])  # not where the matrix is frozen
        logp, gx, gw = [], [], torch.zeros_like(w_VD) if learn_w else None
        for i in range(0, padded.numel(), size):
            at = slice(i, i + size)
            lp, g, dw = run(x[at], w, target[at], weight[at], learn_w)
            logp.append(lp)
            gx.append(g)
            if gw is not None and dw is not None:
                gw += dw
        grad_x = torch.zeros_like(x_TD)
        logp_T = torch.zeros(target_T.shape, dtype=torch.float32, device=x_TD.device)
        if n:
            grad_x[rows] = torch.cat(gx)[:n]
            logp_T[rows] = torch.cat(logp)[:n]
        ctx.gradients = grad_x.view(-1, width), gw  # not saved tensors: backward hands them on without a copy
        ctx.mark_non_differentiable(logp_T)
        return -(weight_T * logp_T).sum(), logp_T

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Any, ...]:
        gx, gw = ctx.gradients
        ctx.gradients = None
        return (gx * grad).to(gx.dtype), None if gw is None else gw.mul_(grad), None, None, None


def linear_cross_entropy(
    x_TD: Tensor, w_VD: Tensor, target_T: Tensor, weight_T: Tensor, compiled: bool = False
) -> tuple[Tensor, Tensor]:
    """-> loss = -sum_t weight_t * log p(target_t | x_t) and log p [T] (0 where target < 0; carries no gradient).

    x [T,D] in the compute dtype, w [V,D] fp32, target [T] with negative = no target, weight [T] fp32.
    """
    return _LinearCrossEntropy.apply(x_TD, w_VD, target_T, weight_T, compiled)


@torch.no_grad()
def target_logp(x_TD: Tensor, w_VD: Tensor, target_T: Tensor) -> Tensor:
    """log p [T] of the targets (0 where target < 0), for evaluation: a chunk of rows at a time, no gradients."""
    logp_T = torch.zeros(target_T.shape, dtype=torch.float32, device=x_TD.device)
    w = w_VD.to(x_TD.dtype)
    for rows in torch.nonzero(target_T >= 0)[:, 0].split(chunk_rows(w.shape[0])):
        n = len(rows)
        # CPU matrix libraries keep a program for every number of rows they meet; powers of two are few
        padded = F.pad(rows, (0, (1 << (n - 1).bit_length()) - n))
        logits = F.linear(x_TD[padded], w).float()
        logp_T[rows] = (logits.gather(-1, target_T[padded, None].clamp(min=0))[:, 0] - logits.logsumexp(-1))[:n]
    return logp_T
