"""Which optimiser moves which parameter, and the state that a checkpoint keeps.

| parameters            | optimiser | rate                |
|-----------------------|-----------|---------------------|
| layer matrices        | Muon      | lr_matrix           |
| embedding             | AdamW     | lr_embed            |
| output matrix         | AdamW     | lr_head             |
| norm gains, routers   | AdamW     | lr_other, no decay  |
| low-rank pairs        | AdamW     | lr_lora, no decay   |

A router is no map between streams but a row for each expert, and experts that are seldom chosen have small gradients:
Muon would bring those to the size of the others'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dokja.model.decoder import Decoder
from dokja.train.muon import Muon

BETAS = (0.9, 0.95)
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


class Optimizer:
    """Muon and AdamW behind one `step(factor)`; `factor` is the schedule's share of every peak rate."""

    def __init__(self, model: Decoder, rates: Mapping[str, float], weight_decay: float, muon: bool = True):
        """`muon` False leaves the matrices to AdamW as well."""
        self.rates, named = dict(rates), {n: p for n, p in model.named_parameters() if p.requires_grad}
        matrices = {n: p for n, p in named.items() if n.endswith("_weight") and not n.endswith("router_weight")}
        self.matrices = matrices if muon else {}
        rest = {n: p for n, p in named.items() if n not in self.matrices}
        pairs = [(p, row_splits(model, n, p.shape[-2]) * math.prod(p.shape[:-2])) for n, p in self.matrices.items()]
        bf16 = torch.bfloat16 if fast_bf16(next(iter(named.values())).device) else torch.float32
        self.muon = Muon(pairs, weight_decay=weight_decay, dtype=bf16)
        groups = []
        for n, p in rest.items():
            other = "lr_lora" if PAIRS in n else {"embed": "lr_embed", "head": "lr_head"}.get(n, "lr_other")
            rate = "lr_matrix" if n in matrices else other
            decay = weight_decay if n in matrices else 0.0
            groups.append({"params": [p], "name": n, "rate": rate, "weight_decay": decay, "lr": 0.0})
        self.adam = torch.optim.AdamW(groups, betas=BETAS, eps=1e-10, fused=True)

    def step(self, factor: float) -> None:
        """Moves every parameter along its gradient."""
        self.muon.step(self.rates["lr_matrix"] * factor)
        for group in self.adam.param_groups:
            group["lr"] = self.rates[group["rate"]] * factor
        self.adam.step()

    def state(self) -> dict[str, Tensor]:
        """Every tensor a resumed run needs, by name."""
        out = {f"muon.{n}": b for n, b in zip(self.matrices, self.muon.buffers, strict=True)}
        for group in self.adam.param_groups:
            for key, value in self.adam.state[group["params"][0]].items():
                out[f"adam.{group['name']}.{key}"] = value
        return out

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what `state` gave, on any device; KeyError when a tensor is absent."""
        for n, buffer in zip(self.matrices, self.muon.buffers, strict=True):
            buffer.copy_(state[f"muon.{n}"])
        for group in self.adam.param_groups:
            p = group["params"][0]
            found = {k: state[f"adam.{group['name']}.{k}"] for k in ("step", "exp_avg", "exp_avg_sq")}
            self.adam.state[p] = {k: v.to(p.device, copy=True) if v.ndim else v.clone() for k, v in found.items()}


def fast_bf16(device: torch.device) -> bool:
    """Whether bf16 matrix products are worth it: a GPU, or a CPU with AVX-512 BF16 or AMX instructions."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
