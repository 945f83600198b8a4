"""Even load on experts, without dropping a token.

Two forces, both of DeepSeek-V3 (arXiv 2412.19437, section 2.1.2) and K-EXAONE: after every optimiser step the biases
that choose are moved towards the experts with less than their share, and a small loss keeps single documents from
leaning on few experts. Padding is no load. A router that is frozen is left alone by both.

    legend   T tokens, S documents (pieces of them) in a micro batch, E experts, A chosen a token, N layers with experts
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dokja.model.decoder import Decoder
from dokja.model.moe import Moe, Routing
from dokja.train import distributed


def documents(docs_BL: Tensor) -> tuple[Tensor, int]:
    """docs_BL numbers the documents of each row from 1, 0 is padding -> the same from 1 through all rows, [T], and how
    many numbers there are, 0 included."""
    most = int(docs_BL.max())
    row_B1 = torch.arange(len(docs_BL), device=docs_BL.device)[:, None] * most
    return torch.where(docs_BL > 0, docs_BL + row_B1, 0).flatten(), len(docs_BL) * most + 1


def loads_and_loss(routing: Routing, docs_BL: Tensor) -> tuple[Tensor, Tensor]:
    """-> tokens that chose each expert, [E] fp32, and the sequence-level loss summed over tokens: equations 17 to 20
    without the factor alpha, every document times its length. It is 1 a token where load and scores are even.

        sum_s T_s sum_e f_e P_e
        f_e = E / (A T_s) sum_t [t chose e],  P_e = 1 / T_s sum_t score_et / sum_j score_jt

    The paper takes the mean over sequences of one length; weighed by length, packed documents of any length and any
    split into micro batches give the same.
    """
    doc_T, count = documents(docs_BL)
    scores_TE, chosen_TA = routing.scores.flatten(0, -2), routing.chosen.flatten(0, -2)
    share_TE = scores_TE / scores_TE.sum(-1, keepdim=True)
    hit_TE = torch.zeros_like(share_TE).scatter(-1, chosen_TA, 1.0)
    nothing = share_TE.new_zeros(count, share_TE.shape[1])
    hits_SE, shares_SE = (nothing.index_add(0, doc_T, x.to(nothing))[1:] for x in (hit_TE, share_TE))
    length_S = nothing.new_zeros(count).index_add(0, doc_T, torch.ones_like(doc_T, dtype=nothing.dtype))[1:]
    even = share_TE.shape[1] / chosen_TA.shape[1]
    return hits_SE.sum(0), even * (hits_SE * shares_SE / length_S.clamp(min=1)[:, None]).sum()


def moved(bias_E: Tensor, load_E: Tensor, rate: float) -> Tensor:
    """The bias after a step: up by `rate` where the load was below the mean, down where it was above."""
    return bias_E + rate * (load_E.mean() - load_E).sign()


def figures(load_NE: Tensor) -> dict[str, float]:
    """`expert_load_worst` and `expert_load_mean`: largest load over mean load, of the worst layer and on average over
    layers; `experts_dead`: share of experts that nothing was sent to."""
    ratio_N = load_NE.max(dim=1).values / load_NE.mean(dim=1).clamp(min=1e-9)
    worst, mean = float(ratio_N.max()), float(ratio_N.mean())
    return {"expert_load_worst": worst, "expert_load_mean": mean, "experts_dead": float((load_NE == 0).double().mean())}


@dataclass
class Balance:
    """Counts the loads of one batch at a time, over all micro batches and processes, and acts on them."""

    layers: list[Moe]
    rate: float
    """How far a bias moves in a step."""
    loss: float
    """Coefficient of the sequence-level loss."""
    tokens: int = 0
    load_NE: Tensor = field(default_factory=lambda: torch.zeros(0))

    @classmethod
    def of(cls, model: Decoder, rate: float | None, loss: float | None) -> Balance | None:
        """None for a model without experts."""
        layers = [block.moe for block in model.blocks if block.layer.experts]
        return cls(layers, rate or 0.0, loss or 0.0) if layers else None

    def begin(self, tokens: int) -> None:
        """A batch of so many tokens over all processes, padding not counted."""
        self.tokens = max(tokens, 1)
        bias = self.layers[0].router_bias
        self.load_NE = torch.zeros(len(self.layers), len(bias), dtype=torch.float64, device=bias.device)

    def add(self, routings: Sequence[Routing], docs_BL: Tensor) -> Tensor:
        """Counts a micro batch; returns its part of the batch's balance loss, to be added to the other."""
        total = torch.zeros((), device=docs_BL.device)
        for load_E, moe, routing in zip(self.load_NE, self.layers, routings, strict=True):
            loads, loss = loads_and_loss(routing, docs_BL)
            load_E += loads
            if moe.router_weight.requires_grad:
                total = total + loss
        return total * (self.loss / self.tokens)

    def end(self) -> None:
        """Every micro batch is counted: puts the counts of all processes together."""
        distributed.sum_tensor(self.load_NE)

    @torch.no_grad()
    def move(self) -> None:
        """Moves the biases; to be called after the optimiser's step."""
        for load_E, moe in zip(self.load_NE, self.layers, strict=True):
            if moe.router_weight.requires_grad:
                moe.router_bias.copy_(moved(moe.router_bias, load_E, self.rate))

    def report(self) -> dict[str, float]:
        """The batch's `figures`."""
        return figures(self.load_NE)
