"""A small spec for every layout and feature, random models of them, and hashes of the tensors in a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from dokja.model.decoder import Decoder
from dokja.model.families.files import read_folder
from dokja.model.spec import ModelSpec, MoeSpec, MtpSpec, RopeScaling, VisionSpec

SPECIAL = {"bos": 1, "eos": 2, "pad": 0}
_BASE = dict(vocab=80, width=32, layers=4, heads=4, kv_heads=2, head_dim=12, ffn=40, context=64)
_LOCAL = dict(pattern="LLLG", window=6)
_PLAIN = dict(pattern="G", norm="pre", qk_norm=False, rope="all")
_STRETCH = RopeScaling(factor=8.0, original=16)
_TOWER = VisionSpec(layers=2, width=16, heads=4, kv_heads=2, ffn=24, full=(1,), image_token=67, video_token=68)

SPECS = {
    "exaone": ModelSpec(**_BASE, **_PLAIN, rope_theta=5e5),
    "exaone tied": ModelSpec(**_BASE, **_PLAIN, rope_scaling=_STRETCH, tied=True),
    "qwen2": ModelSpec(**_BASE, **_PLAIN, rope_theta=1e6, norm_eps=1e-6, qkv_bias=True),
    "qwen2 tied": ModelSpec(**_BASE | {"head_dim": 8}, **_PLAIN, rope_theta=1e6, qkv_bias=True, tied=True),
    "exaone4": ModelSpec(**_BASE, **_LOCAL, rope_scaling=_STRETCH),
    "exaone4 tied": ModelSpec(**_BASE, pattern="G", rope="all", tied=True),
    "exaone4 mtp": ModelSpec(**_BASE, **_LOCAL, mtp=MtpSpec(6)),
    "exaone4_5": ModelSpec(**_BASE, **_LOCAL, mtp=MtpSpec(6), vision=_TOWER),
    "exaone_moe": ModelSpec(**_BASE, **_LOCAL, norm="pre", moe=MoeSpec(6, 2, 16, scale=2.5), mtp=MtpSpec()),
    "exaone_moe groups": ModelSpec(
        **_BASE, **_LOCAL, norm="pre", moe=MoeSpec(8, 2, 16, shared=2, groups=4, group_active=2, normalize=False)
    ),
    "exaone_moe 2.0": ModelSpec(
        **_BASE, window=(0, 7, 4, 4), norm="pre", clamp=(0.0, 0.0, 0.5, 0.25),
        moe=MoeSpec(6, 2, 16, shared=0, dense=2), mtp=MtpSpec(4),
    ),
    "exaone_moe dense": ModelSpec(**_BASE, **_LOCAL, norm="pre"),
}  # fmt: skip


def model(spec: ModelSpec, seed: int = 0) -> Decoder:
    """A decoder whose every parameter is random."""
    made = Decoder(spec).init_weights(seed)
    gen = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for p in made.parameters():
            if p.ndim > 1:
                p.normal_(0.0, p.shape[-1] ** -0.5, generator=gen)
            else:
                p.uniform_(0.5, 1.5, generator=gen)
    return made.requires_grad_(False)


def weights(made: Decoder) -> dict[str, torch.Tensor]:
    return dict(made.named_parameters())


def hashes(folder: Path) -> dict[str, str]:
    """sha256 of dtype, shape and bytes of every tensor that has any, by name."""
    found = {}
    for name, stored in read_folder(folder).items():
        if 0 not in stored.shape:
            data = stored.read().flatten().view(torch.uint8).numpy().tobytes()
            found[name] = hashlib.sha256(f"{stored.dtype} {stored.shape} ".encode() + data).hexdigest()
    return found
