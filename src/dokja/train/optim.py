"""Which optimiser moves which parameter, and the state that a checkpoint keeps.

| parameters            | optimiser | rate                |
|-----------------------|-----------|---------------------|
| layer matrices        | Muon      | lr_matrix           |
| embedding             | AdamW     | lr_embed            |
| output matrix         | AdamW     | lr_head             |
| norm gains, routers   | AdamW     | lr_other, no decay  |
| low-rank pairs        | AdamW     | lr_lora, no decay   |

With `adamw` the layer matrices are AdamW's as well. With `adafactor` (arXiv 1804.04235) every matrix is Adafactor's,
embedding and output matrix included: it keeps a number a row and a column instead of one or two a weight, which is what
fine-tuning a model as large as the memory needs. Its rates are relative to the size of the weights.

A router is no map between streams but a row for each expert, and experts that are seldom chosen have small gradients:
Muon would bring those to the size of the others'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from dokja.model.decoder import Decoder
from dokja.train.muon import Muon

BETAS = (0.9, 0.95)
_KEYS = {"adam": ("step", "exp_avg", "exp_avg_sq"), "adafactor": ("step", "row_var", "col_var")}
PAIRS = ".lora."
"""In the name of every parameter of a low-rank pair (`train.lora`), and in no other."""


def row_splits(model: Decoder, name: str, rows: int) -> list[int]:
    """Row counts of the matrices that a fused layer parameter holds; of one expert's, where it holds several."""
    s = model.spec
    tower = s.vision if name.startswith("vision.") else None
    if name.endswith("qkv_weight"):
        keys = (tower or s).kv_heads * (tower or s).head_dim
        return [rows - 2 * keys, keys, keys]
    if name.endswith("merger_up_weight"):
        return [rows]
    if name.endswith("up_weight") and (tower or s.activation == "swiglu"):
        return [rows // 2, rows // 2]
    return [rows]


Kind = Literal["muon", "adamw", "adafactor"]


class Optimizer:
    """All optimisers behind one `step(factor)`; `factor` is the schedule's share of every peak rate."""

    def __init__(self, model: Decoder, rates: Mapping[str, float], weight_decay: float, kind: Kind = "muon"):
        """`kind`: see the table above."""
        self.rates, named = dict(rates), {n: p for n, p in model.named_parameters() if p.requires_grad}
        matrices = {n: p for n, p in named.items() if n.endswith("_weight") and not n.endswith("router_weight")}
        self.matrices = matrices if kind == "muon" else {}
        rest = {n: p for n, p in named.items() if n not in self.matrices}
        pairs = [(p, row_splits(model, n, p.shape[-2]) * math.prod(p.shape[:-2])) for n, p in self.matrices.items()]
        bf16 = torch.bfloat16 if fast_bf16(next(iter(named.values())).device) else torch.float32
        self.muon = Muon(pairs, weight_decay=weight_decay, dtype=bf16)
        groups: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for n, p in rest.items():
            other = "lr_lora" if PAIRS in n else {"embed": "lr_embed", "head": "lr_head"}.get(n, "lr_other")
            rate = "lr_matrix" if n in matrices else other
            decay = weight_decay if n in matrices else 0.0
            factored = kind == "adafactor" and (n in matrices or n in ("embed", "head"))
            groups[factored].append({"params": [p], "name": n, "rate": rate, "weight_decay": decay, "lr": 0.0})
        self.others: dict[str, torch.optim.Optimizer] = {}
        if groups[False]:
            self.others["adam"] = torch.optim.AdamW(groups[False], betas=BETAS, eps=1e-10, fused=True)
        if groups[True]:
            self.others["adafactor"] = torch.optim.Adafactor(groups[True], foreach=False)

    def step(self, factor: float) -> None:
        """Moves every parameter along its gradient."""
        self.muon.step(self.rates["lr_matrix"] * factor)
        for other in self.others.values():
            for group in other.param_groups:
                group["lr"] = self.rates[group["rate"]] * factor
            other.step()

    def state(self) -> dict[str, Tensor]:
        """Every tensor a resumed run needs, by name."""
        out = {f"muon.{n}": b for n, b in zip(self.matrices, self.muon.buffers, strict=True)}
        for kind, other in self.others.items():
            for group in other.param_groups:
                for key, value in other.state[group["params"][0]].items():
                    out[f"{kind}.{group['name']}.{key}"] = value
        return out

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what `state` gave, on any device; KeyError when a tensor is absent."""
        for n, buffer in zip(self.matrices, self.muon.buffers, strict=True):
            buffer.copy_(state[f"muon.{n}"])
        for kind, other in self.others.items():
            for group in other.param_groups:
                p = group["params"][0]
                found = {k: state[f"{kind}.{group['name']}.{k}"] for k in _KEYS[kind]}
                other.state[p] = {k: v.to(p.device, copy=True) if v.ndim else v.clone() for k, v in found.items()}


def fast_bf16(device: torch.device) -> bool:
    """Whether bf16 matrix products are worth it: a GPU, or a CPU with AVX-512 BF16 or AMX instructions."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
