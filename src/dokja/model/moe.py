"""A mixture of experts without capacity: every token reaches every expert it chose (dropless).

    legend   T tokens, D width, E experts, A active (chosen) a token, P = T*A pairs, F width of one expert, R rows laid
             out expert by expert

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

The products are `F.grouped_mm`: on a CPU as fast as a loop over the experts and bit for bit the same, on a GPU one
kernel that needs no sizes on the host. They stand behind operators of our own because torch.compile takes grouped_mm
in bf16 only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dokja.model.spec import ModelSpec
from dokja.model.swiglu import swiglu

ALIGN = 64
"""bf16 products on a CPU are compiled anew for every number of rows. Where there are many, an expert's rows are filled
up with zeros to a multiple of this: a few shapes instead of thousands, each of which costs time and memory."""


class Routing(NamedTuple):
    """What a router decided for tokens of any shape [...]."""

    scores: Tensor
    """[..., E] fp32, sigmoid of the logits."""
    chosen: Tensor
    """[..., A] int64, experts of each token."""


@torch.library.custom_op("dokja::grouped", mutates_args=())
def _grouped(x_RK: Tensor, w_EKN: Tensor, ends_E: Tensor) -> Tensor:
    return F.grouped_mm(x_RK, w_EKN, offs=ends_E)


@_grouped.register_fake
def _(x_RK: Tensor, w_EKN: Tensor, ends_E: Tensor) -> Tensor:
    return x_RK.new_empty(x_RK.shape[0], w_EKN.shape[2])


@torch.library.custom_op("dokja::grouped_weights", mutates_args=())
def _grouped_weights(x_RK: Tensor, g_RN: Tensor, ends_E: Tensor) -> Tensor:
    return F.grouped_mm(x_RK.mT, g_RN, offs=ends_E)


@_grouped_weights.register_fake
def _(x_RK: Tensor, g_RN: Tensor, ends_E: Tensor) -> Tensor:
    return x_RK.new_empty(ends_E.shape[0], x_RK.shape[1], g_RN.shape[1])


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_RN: Tensor) -> tuple[Tensor, Tensor, None]:
    x_RK, w_EKN, ends_E = ctx.saved_tensors
    grad_RN = grad_RN.contiguous()
    weights = torch.ops.dokja.grouped_weights(grad_RN, x_RK, ends_E).mT  # laid out as the parameter, [E,N,K]
    return torch.ops.dokja.grouped(grad_RN, w_EKN.mT, ends_E), weights, None


_grouped.register_autograd(_backward, setup_context=_setup)


def grouped(x_RK: Tensor, w_ENK: Tensor, ends_E: Tensor) -> Tensor:
    """Rows x[R,K], expert by expert as `lay_out` says -> [R,N], each times its expert's w[N,K] transposed."""
    y: Tensor = torch.ops.dokja.grouped(x_RK, w_ENK.to(x_RK.dtype).mT, ends_E)
    return y


class _Spread(torch.autograd.Function):
    """x[T,D] -> [R,D]: the row slot_P[t * A + a] is x[t], all others are zero. Both directions move rows without adding
    into shared places, so they are exact and fast in deterministic mode."""

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, slot_P: Tensor, rows: int) -> Tensor:
        ctx.save_for_backward(slot_P)
        ctx.tokens, a = len(x_TD), len(slot_P) // len(x_TD)
        return x_TD.new_zeros(rows, x_TD.shape[1]).index_copy(0, slot_P, x_TD.repeat_interleave(a, 0))

    @staticmethod
    def backward(ctx: Any, grad_RD: Tensor) -> tuple[Tensor, None, None]:
        (slot_P,) = ctx.saved_tensors
        return grad_RD[slot_P].unflatten(0, (ctx.tokens, -1)).sum(1), None, None


class _Collect(torch.autograd.Function):
    """y[R,D] -> y[slot_P], [P,D]; no row is asked for twice."""

    @staticmethod
    def forward(ctx: Any, y_RD: Tensor, slot_P: Tensor) -> Tensor:
        ctx.save_for_backward(slot_P)
        ctx.rows = len(y_RD)
        return y_RD[slot_P]

    @staticmethod
    def backward(ctx: Any, grad_PD: Tensor) -> tuple[Tensor, None]:
        (slot_P,) = ctx.saved_tensors
        return grad_PD.new_zeros(ctx.rows, grad_PD.shape[1]).index_copy(0, slot_P, grad_PD), None


def lay_out(expert_P: Tensor, experts: int, align: int) -> tuple[Tensor, Tensor, int]:
    """Rows expert by expert, for pairs that go to expert_P -> slot_P, the row of each pair; ends_E (int32), where each
    expert's rows end; how many rows there are. Every expert's rows are filled up to a multiple of `align`."""
    pairs = len(expert_P)
    rows = pairs if align == 1 else -(-(pairs + experts * (align - 1)) // align) * align
    sizes_E = F.one_hot(expert_P, experts).sum(0)
    room_E = (sizes_E + align - 1) // align * align
    ends_E, before_E = room_E.cumsum(0), sizes_E.cumsum(0) - sizes_E
    order_P = expert_P.argsort(stable=True)  # all pairs of expert 0, then of expert 1, ...
    rank_P = torch.empty_like(order_P).scatter(0, order_P, torch.arange(pairs, device=expert_P.device))
    slot_P = rank_P + (ends_E - room_E - before_E)[expert_P]
    return slot_P, torch.cat((ends_E[:-1], ends_E.new_tensor([rows]))).to(torch.int32), rows


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
            wish = grouped.masked_fill(~open_[..., None], float("-inf")).flatten(-2)
        chosen = wish.topk(m.active, dim=-1).indices
        weight = scores.gather(-1, chosen)
        if m.normalize:
            weight = weight / (weight.sum(-1, keepdim=True) + 1e-20)
        return Routing(scores, chosen), weight * m.scale

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        """x[..., D] -> [..., D]."""
        routing, weight = self.route(x)
        x_TD, expert_P = x.flatten(0, -2), routing.chosen.flatten()
        many = len(expert_P) >= 4 * ALIGN * self.spec.experts
        align = ALIGN if many and x.dtype == torch.bfloat16 and x.device.type == "cpu" else 1
        slot_P, ends_E, rows = lay_out(expert_P, self.spec.experts, align)
        y_RD = _Spread.apply(x_TD, slot_P, rows)
        y_RF = grouped(y_RD, self.up_weight, ends_E)
        y_RD = grouped(swiglu(y_RF, self.clamp), self.down_weight, ends_E)
        y_TAD = _Collect.apply(y_RD, slot_P).unflatten(0, (len(x_TD), -1))
        out = (y_TAD * weight.flatten(0, -2)[..., None].to(y_TAD.dtype)).sum(1)
        if self.spec.shared:
            up = F.linear(x_TD, self.shared_up_weight.to(x.dtype))
            out = out + F.linear(swiglu(up, self.clamp), self.shared_down_weight.to(x.dtype))
        return out.view(x.shape), routing
