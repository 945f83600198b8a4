"""Multi-token prediction (DeepSeek-V3, arXiv 2412.19437 section 2.2; EXAONE 4.5 and K-EXAONE have depth 1).

At position t the head sees the stack's output h_t and the embedding of token t+1, and predicts token t+2 through one
layer of its own and the stack's output matrix:

    x_t = fc [ norm(embed(t+1)) ; norm(h_t) ]   ->   layer   ->   norm   ->   head

`h_t` is taken after the stack's final norm, and the embedding stands first, as vLLM's exaone_moe_mtp.py has it.

| parameter               | shape   | init               |
|-------------------------|---------|--------------------|
| embed_norm, hidden_norm | [D]     | one                |
| fc_weight               | [D, 2D] | normal, (2D)^-1/2  |
| block.*                 | a layer | as the stack's     |
| norm                    | [D]     | one                |
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dokja.model.block import Block
from dokja.model.norm import rms_norm
from dokja.model.spec import LayerSpec, ModelSpec


class Mtp(nn.Module):
    """The head; its layer is run by whoever runs the stack's layers."""

    def __init__(self, spec: ModelSpec):
        super().__init__()
        assert spec.mtp is not None
        self.eps, d = spec.norm_eps, spec.width
        self.embed_norm = nn.Parameter(torch.empty(d))
        self.hidden_norm = nn.Parameter(torch.empty(d))
        self.fc_weight = nn.Parameter(torch.empty(d, 2 * d))
        self.block = Block(spec, LayerSpec(spec.mtp.window, spec.mtp.rope))
        self.norm = nn.Parameter(torch.empty(d))

    def init_weights(self, gen: torch.Generator) -> None:
        """Fills the parameters by the table above."""
        for gain in (self.embed_norm, self.hidden_norm, self.norm):
            gain.fill_(1.0)
        self.fc_weight.normal_(0.0, self.fc_weight.shape[1] ** -0.5, generator=gen)
        self.block.init_weights(gen)

    def enter(self, hidden: Tensor, next_embedded: Tensor) -> Tensor:
        """h_t [..., D] after the final norm and the embedding of token t+1 [..., D] -> input of the layer [..., D]."""
        parts = rms_norm(next_embedded, self.embed_norm, self.eps), rms_norm(hidden, self.hidden_norm, self.eps)
        return F.linear(torch.cat(parts, dim=-1), self.fc_weight.to(hidden.dtype))

    def leave(self, x: Tensor) -> Tensor:
        """The layer's output [..., D] -> what the output matrix multiplies."""
        return rms_norm(x, self.norm, self.eps)
