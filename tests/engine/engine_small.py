"""Small random models for the engine's tests. Matrices are set large enough for scores to differ clearly."""

import pytest
import torch

from dokja.engine.api import Request
from dokja.model.decoder import Decoder
from dokja.model.native.build import load
from dokja.model.spec import ModelSpec

NATIVE = {"width": 48, "head_dim": 16, "ffn": 80, "vocab": 50}
"""Changes to `spec` that the C++ path can serve; the plain spec's heads are too narrow for it."""

needs_compiler = pytest.mark.skipif(load("decode") is None, reason="no C++ compiler")


def spec(**changes) -> ModelSpec:
    base = dict(
        vocab=48, width=32, layers=4, heads=4, kv_heads=2, head_dim=8, ffn=48, context=64, pattern="LLLG", window=8
    )
    return ModelSpec(**(base | changes))


def model(seed: int = 0, **changes) -> Decoder:
    """A decoder of `spec(**changes)` whose every matrix is random: init leaves some at zero."""
    decoder = Decoder(spec(**changes)).init_weights(seed)
    gen = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, p in decoder.named_parameters():
            if p.ndim > 1 and name != "embed":
                p.normal_(0.0, p.shape[1] ** -0.5, generator=gen)
            elif p.ndim == 1:
                p.uniform_(0.5, 1.5, generator=gen)
        decoder.embed.normal_(generator=gen)
    return decoder.requires_grad_(False)


def prompt(seed: int, length: int, vocab: int = 48) -> list[int]:
    gen = torch.Generator().manual_seed(1000 + seed)
    return torch.randint(0, vocab, (length,), generator=gen).tolist()


def wish(temperature=1.0, top_p=1.0, top_k=0, seed=0, **more):
    """A request with these settings and nothing else."""
    return Request("wish", [0], 1, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed, **more)
