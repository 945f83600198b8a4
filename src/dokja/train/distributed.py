"""Data parallelism: every process trains on its part of each batch and gradients are summed.

Alone, all of it does nothing. Start several with torchrun; gloo on CPU, NCCL on GPUs. Weights are whole in every
process; sharding them is a later step.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

N = TypeVar("N", int, float)


def start(device: torch.device) -> torch.device:
    """Joins the group torchrun describes, if any; returns this process's device."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    return device


def rank() -> int:
    """Number of this process, 0 when alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Processes in the group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def total(value: N) -> N:
    """Sum over all processes."""
    if world() == 1:
        return value
    t = torch.tensor([value], dtype=torch.float64)
    if dist.get_backend() == "nccl":
        t = t.cuda()
    dist.all_reduce(t)
    return type(value)(t.item())


def sum_tensor(t: Tensor) -> None:
    """Adds every process's `t` in place."""
    if world() > 1:
        dist.all_reduce(t)


def wait() -> None:
    """Until every process is here."""
    if dist.is_initialized():
        dist.barrier()


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Adds every process's `.grad` in place."""
    if world() == 1:
        return
    grads = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads])
    sum_tensor(flat)
    for g, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
        g.copy_(part.view_as(g))
