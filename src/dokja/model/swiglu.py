"""SwiGLU (arXiv 2002.05202), with the limit that K-EXAONE 2.0's last layers have."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def swiglu(x: Tensor, clamp: float = 0.0) -> Tensor:
    """x[..., 2F] (gate, then up) -> silu(gate) * up, [..., F]; with a clamp gate <= clamp and |up| <= clamp first."""
    gate, up = x.chunk(2, dim=-1)
    if clamp:
        gate, up = gate.clamp(max=clamp), up.clamp(-clamp, clamp)
    return F.silu(gate) * up
