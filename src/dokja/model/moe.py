"""A mixture of experts without capacity: every token reaches every expert it chose (dropless).

    legend   T tokens, D width, E experts, A active (chosen) a token, F width of one expert

| parameter           | shape        | init                                |
|---------------------|--------------|-------------------------------------|
| router_weight       | [E, D]       | normal, std D^-1/2                  |
| router_bias         | [E]          | zero; moved by balance, not by loss |
| up_weight           | [E, 2F, D]   | normal, std D^-1/2                  |
| down_weight         | [E, D, F]    | normal, std F^-1/2; zero (pre norm) |
| shared_up_weight    | [2FS, D]     | as up                               |
| shared_down_weight  | [D, FS]      | as down                             |

(S shared experts lie side by side as one network.) Routing follows DeepSeek-V3 (arXiv 2412.19437, equations 12-16)
and K-EXAONE: scores are sigmoids of fp32 logits; score + bias chooses, the score alone weighs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dokja.model.spec import ModelSpec
from dokja.model.swiglu import swiglu


class Routing(NamedTuple):
    """What a router decided for tokens of any shape [...]."""

    scores: Tensor
    """[..., E] fp32, sigmoid of the logits."""
    chosen: Tensor
    """[..., A] int64, experts of each token."""


class Moe(nn.Module):
    """The experts of one layer and their router."""

    def __init__(self, spec: ModelSpec, clamp: float):
        super().__init__()
        assert spec.moe is not None
        self.spec, self.clamp, d, f = spec.moe, clamp, spec.width, spec.moe.ffn
        e, s = self.spec.experts, self.spec.shared
        self.router_weight = nn.Parameter(torch.empty(e, d))
        self.router_bias = nn.Parameter(torch.empty(e), requires_grad=False)
        self.up_weight = nn.Parameter(torch.empty(e, 2 * f, d))
        self.down_weight = nn.Parameter(torch.empty(e, d, f))
        if s:
            self.shared_up_weight = nn.Parameter(torch.empty(2 * f * s, d))
            self.shared_down_weight = nn.Parameter(torch.empty(d, f * s))

    def init_weights(self, gen: torch.Generator, post: bool) -> None:
        """Fills the parameters by the table above; `post`: the layer normalises its output."""
        width, f = self.router_weight.shape[1], self.spec.ffn
        self.router_weight.normal_(0.0, width**-0.5, generator=gen)
        self.router_bias.zero_()
        ups, downs = [self.up_weight], [self.down_weight]
        if self.spec.shared:
            ups.append(self.shared_up_weight)
            downs.append(self.shared_down_weight)
        for up in ups:
            up.normal_(0.0, width**-0.5, generator=gen)
        for down in downs:
            down.normal_(0.0, f**-0.5 if post else 0.0, generator=gen)

    def route(self, x: Tensor) -> tuple[Routing, Tensor]:
        """x[..., D] -> which experts, and the weight of each [..., A] in fp32."""
        m = self.spec
        scores = F.linear(x.float(), self.router_weight.float()).sigmoid()
        wish = scores.detach() + self.router_bias
        if m.groups > 1:
            grouped = wish.unflatten(-1, (m.groups, -1))
            best = grouped.topk(2, dim=-1).values.sum(-1).topk(m.group_active, dim=-1).indices
            open_ = torch.zeros_like(grouped[..., 0], dtype=torch.bool).scatter(-1, best, True)
            wish = grouped.masked_fill(~open_[..., None], 0.0).flatten(-2)
        chosen = wish.topk(m.active, dim=-1).indices
        weight = scores.gather(-1, chosen)
        if m.normalize:
            weight = weight / (weight.sum(-1, keepdim=True) + 1e-20)
        return Routing(scores, chosen), weight * m.scale

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        """x[..., D] -> [..., D]."""
        routing, weight = self.route(x)
        x_TD, a = x.flatten(0, -2), self.spec.active
        expert = routing.chosen.flatten()
        order = expert.argsort(stable=True)  # all tokens of expert 0, then of expert 1, ...
        ends_E = F.one_hot(expert, self.spec.experts).sum(0).cumsum(0).to(torch.int32)
        rows = x_TD[order // a]
        y = F.grouped_mm(rows, self.up_weight.to(x.dtype).mT, offs=ends_E)
        y = F.grouped_mm(swiglu(y, self.clamp), self.down_weight.to(x.dtype).mT, offs=ends_E)
        y = y[order.argsort()].unflatten(0, (-1, a))
        out = (y * weight.flatten(0, -2)[..., None].to(y.dtype)).sum(1)
        if self.spec.shared:
            up = F.linear(x_TD, self.shared_up_weight.to(x.dtype))
            out = out + F.linear(swiglu(up, self.clamp), self.shared_down_weight.to(x.dtype))
        return out.view(x.shape), routing
