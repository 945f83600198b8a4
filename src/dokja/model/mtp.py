"""Multi-token prediction (DeepSeek-V3, arXiv 2412.19437 section 2.2; EXAONE 4.5 and K-EXAONE have depth 1).

At position t the head sees the stack's output h_t and the embedding of token t+1, and predicts token t+2 through one
layer of its own and the stack's output matrix:

    x_t = fc [ norm(embed(t+1)) ; norm(h_t) ]   ->   layer   ->   norm   ->   head

`h_t` is taken after the stack's final norm, the embedding stands first, and the layer is at position t, as vLLM's
exaone_moe_mtp.py and its proposer have it. Further tokens come from the same layer again: its own normed output stands
for h at the next position (K-EXAONE 2.0 repeats it four times).

Training adds the cross entropy of token t+2 (eq. 24, 25 there), for t+1 and t+2 inside the document of t. A token bears
the weight it bears as a next token, so k micro batches, or k processes, still add up to the gradient of one batch.

| parameter               | shape   | init               |
|-------------------------|---------|--------------------|
| embed_norm, hidden_norm | [D]     | one                |
| fc_weight               | [D, 2D] | normal, (2D)^-1/2  |
| block.*                 | a layer | as the stack's     |
| norm                    | [D]     | one                |
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dokja.model.block import Block, BlockFn, Rotation, block_forward
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

    def forward(
        self, hidden: Tensor, embedded: Tensor, rot: Rotation, seen: Any, run_block: BlockFn = block_forward
    ) -> Tensor:
        """Whole rows: h [B,L,D] and the embeddings of the same tokens [B,L,D] -> what the output matrix multiplies.

        At the last token of a document the next embedding is another document's; nothing there has a target, and no
        other token of the document sees it.
        """
        x, _ = run_block(self.block, self.enter(hidden, embedded.roll(-1, dims=1)), rot, seen)
        return self.leave(x)


def two_ahead(docs_BL: Tensor, targets_BL: Tensor, weights_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Targets and weights of the tokens after the next, where t and t+1 are inputs of one document; elsewhere -100, 0.

    Arguments as in `data.batch.Batch`: what t+1 has as its target, if any, is token t+2.
    """
    inside_BL = (docs_BL == docs_BL.roll(-1, dims=1)) & (docs_BL > 0)
    inside_BL[:, -1] = False
    target_BL = targets_BL.roll(-1, dims=1).masked_fill(~inside_BL, -100)
    return target_BL, weights_BL.roll(-1, dims=1).masked_fill(~inside_BL, 0.0)
