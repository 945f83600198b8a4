"""Weights in 8 or 4 bits where `engine.wide` cannot serve: experts, two tokens ahead, images, a GPU, no compiler.

The rounding is wide.cpp's (but scales of int4 are bf16, as torch takes them). The products are torch's: its weight-only
kernels on the CPU; elsewhere the matrix is made from its bytes for every product, which saves memory and no time.
Inputs are not rounded beyond their own dtype.

| tensor                                           | kept as                                                        |
|--------------------------------------------------|----------------------------------------------------------------|
| matrices of the layers, experts, multi-token head| int8: a scale an output; int4: a scale for 32 inputs           |
| output matrix                                    | int8, of its own where it is tied                              |
| embedding, routers, vision tower                 | bf16: rows are looked up, choices are close, images are few    |
| gains and biases                                 | fp32                                                           |

`LowBit` stands where a parameter was, so blocks, experts and multi-token head are those of training.

    legend   T rows, N outputs, K inputs, E experts
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dokja.engine.packed import GROUP, Bits, PackedWeights, obstacle
from dokja.model.decoder import Decoder
from dokja.model.spec import ModelSpec


class Rounded:
    """A matrix [N, K] in few bits; an attribute for what its kernel reads."""

    def __init__(self, w_NK: Tensor, bits: Bits):
        self.shape = n, k = w_NK.shape
        w = w_NK.float()
        if bits == "int8":
            self.scale = w.abs().amax(1, keepdim=True) / 127
            self.bytes = (w / torch.where(self.scale > 0, self.scale, 1.0)).round().to(torch.int8)
            # torch 2.13's kernel reads beyond the end of bf16 inputs whose width is no multiple of 16.
            self._product = self._product8 if w.device.type == "cpu" and k % 16 == 0 else self._plain
        else:
            q, self.scale = _nibbles(w)
            if w.device.type == "cpu" and n % 16 == k % GROUP == 0:
                self.bytes = torch.ops.aten._convert_weight_to_int4pack_for_cpu(q.to(torch.int32), 1)
                self._steps = torch.stack((self.scale.T, torch.zeros_like(self.scale.T)), -1)
                self._product = self._product4
            else:
                self.bytes = q[:, ::2] | q[:, 1::2] << 4
                self._product = self._plain

    def times(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x[..., K] -> [..., N] in the dtype of x."""
        y = self._product(x.reshape(-1, self.shape[1])).view(*x.shape[:-1], self.shape[0])
        return y if bias is None else y + bias

    def whole(self, dtype: torch.dtype) -> Tensor:
        """The matrix that the bytes stand for."""
        if self.bytes.dtype == torch.int8:
            return (self.bytes * self.scale).to(dtype)
        if self._product == self._product4:
            return self._product4(torch.eye(self.shape[1])).T.to(dtype)
        q = torch.stack((self.bytes & 15, self.bytes >> 4), -1).flatten(1).float() - 8
        return (q.unflatten(1, (-1, GROUP)) * self.scale[..., None]).flatten(1)[:, : self.shape[1]].to(dtype)

    def _plain(self, x_TK: Tensor) -> Tensor:
        return F.linear(x_TK, self.whole(x_TK.dtype))

    def _product8(self, x_TK: Tensor) -> Tensor:
        # Scales of bf16 would round the weights once more.
        one = torch.ones(self.shape[0], dtype=x_TK.dtype)
        y: Tensor = torch.ops.aten._weight_int8pack_mm(x_TK.contiguous(), self.bytes, one)
        return (y * self.scale[:, 0]).to(x_TK.dtype)

    def _product4(self, x_TK: Tensor) -> Tensor:
        y: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            x_TK.contiguous(), self.bytes, GROUP, self._steps.to(x_TK.dtype)
        )
        return y


def _nibbles(w_NK: Tensor) -> tuple[Tensor, Tensor]:
    """0..15 [N, K] (uint8) and scales [N, K/32] (bf16): the number furthest from zero of 32 becomes -8. K is filled up
    with zeros."""
    groups = F.pad(w_NK, (0, -w_NK.shape[1] % GROUP)).unflatten(1, (-1, GROUP))
    scale = (groups.gather(2, groups.abs().argmax(2, keepdim=True)) / -8).bfloat16()
    step = scale.float()
    q = (groups / torch.where(step != 0, step, 1.0)).round().clamp(-8, 7) + 8
    return q.flatten(1).to(torch.uint8), scale[..., 0]


_TURN = cast(Any, Tensor.mT).__get__


class LowBit(Tensor):
    """Stands for a parameter [N, K], or [E, N, K], in products with its rounded numbers; it has no numbers itself."""

    parts: list[Rounded]

    @staticmethod
    def of(w: Tensor, bits: Bits) -> LowBit:
        """The parameter's rounded form."""
        made: LowBit = Tensor._make_subclass(LowBit, torch.empty(w.shape, device="meta"))
        made.parts = [Rounded(part, bits) for part in (w if w.ndim == 3 else w[None])]
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Products as `Block`, `Mtp` and `Moe` write them."""
        if func is F.linear:
            return args[1].parts[0].times(args[0], *args[2:], **(kwargs or {}))
        if func in (torch.ops.dokja.grouped, torch.ops.dokja.grouped.default):
            return _grouped(*args)
        if func in (Tensor.to, _TURN):  # what it is turned into, the product tells
            return args[0]
        return super().__torch_function__(func, types, args, kwargs)


def _grouped(x_RK: Tensor, w_ENK: LowBit, ends_E: Tensor) -> Tensor:
    """See `model.moe.grouped`."""
    y_RN = x_RK.new_zeros(len(x_RK), w_ENK.parts[0].shape[0])
    start = 0
    for part, end in zip(w_ENK.parts, ends_E.tolist(), strict=True):
        if end > start:
            y_RN[start:end] = part.times(x_RK[start:end])
        start = end
    return y_RN


class LowBitDecoder(Decoder):
    """A decoder with few bits in its matrices, to sample from."""

    def __init__(
        self, spec: ModelSpec, bits: Literal["int8", "int4"], get: Callable[[str], Tensor], device: str = "cpu"
    ):
        """`get` gives the parameters by name, of any dtype, when their turn comes. Memory: these and the largest."""
        with torch.device("meta"):
            super().__init__(spec)
        self.bits, self.device = bits, device
        self._names = [name for name, _ in self.named_parameters()]
        self.take(get)

    @property
    def head_weight(self) -> Tensor:
        """The output matrix, which is never the embedding itself here."""
        return self.head

    def take(self, get: Callable[[str], Tensor]) -> None:
        """Fills all parameters anew."""
        for name in self._names:
            owner, _, leaf = name.rpartition(".")
            module, value = self.get_submodule(owner), get(name).detach()
            module._parameters.pop(leaf, None)
            setattr(module, leaf, self._kept(name, value))
            if name == "embed" and self.spec.tied:
                setattr(self, "head", self._rounded(value, "int8"))  # noqa: B010

    def _kept(self, name: str, value: Tensor) -> Tensor:
        if value.ndim > 1 and not name.endswith(("embed", "router_weight")) and not name.startswith("vision."):
            return self._rounded(value, "int8" if name == "head" else self.bits)
        value = value.to(self.device, torch.float32 if value.ndim < 2 else torch.bfloat16)
        return nn.Parameter(value, requires_grad=False)

    def _rounded(self, value: Tensor, bits: Bits) -> Tensor:
        return LowBit.of(value.to(self.device), bits)


def few_bits(model: Decoder, bits: Bits, device: str) -> PackedWeights | Decoder:
    """A model to sample from with weights of so many bits: packed for wide.cpp, or else for torch's kernels, of which
    stderr hears. A decoder for bf16 comes back as it is."""
    if (why := obstacle(model.spec, device)) is None:
        return PackedWeights.of(model, bits)
    say(bits, why)
    return (
        model if bits == "bf16" else LowBitDecoder(model.spec, bits, dict(model.named_parameters()).__getitem__, device)
    )


def say(bits: Bits, why: str) -> None:
    """The sentence for whoever asked for `bits` and gets torch's kernels."""
    print(f"dokja: {bits} weights go through torch's own kernels, which are slower: {why}.", file=sys.stderr)
