"""Promise 8: the log-probability that the engine gives with a token is the trainer's, for every family.

The trainer sees whole answers, packed several to a row; the engine saw them token by token, from pages, in chunks,
beside changing neighbours, some with drafts. fp32 on a CPU, natural logarithms.

What is left is rounding: these random models' scores are a few units wide, where fp32 has steps of 2 to 5e-7, and the
trainer alone is up to 5e-6 away from the same sums in fp64. A wrong mask, position or gain makes 1e-2.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from families_small import SPECS, model

from dokja.engine import native
from dokja.engine.api import Completion, Request
from dokja.engine.engine import Engine
from dokja.model.decoder import Decoder
from dokja.model.native.build import load
from dokja.model.spec import ModelSpec, MtpSpec
from dokja.text.images import ImageConfig, Patches, patches, token_count
from dokja.train.compiled import Runner
from dokja.train.rollouts.layout import Sampled, lay_out

MEAN, MOST = 1e-6, 1e-5
"""Nats between the two for a token: on the average, and at the most."""
OURS = dict(vocab=80, width=48, layers=5, heads=4, kv_heads=2, head_dim=16, ffn=80, context=96)
FAMILIES = {
    **SPECS,
    "ours, hybrid": ModelSpec(**OURS, pattern="LLG", window=7),
    "ours, pre norm and relu2": ModelSpec(**OURS, pattern="LG", window=9, norm="pre", activation="relu2", tied=True),
    "ours, no QK-norm": ModelSpec(
        **{**OURS, "layers": 3}, pattern="LG", window=5, qk_norm=False, rope="all", mtp=MtpSpec(5)
    ),
}
FAST = {name: spec for name, spec in FAMILIES.items() if spec.moe is None and not spec.clamp}
"""What the C++ step serves, in the widths that it has."""


def asked(spec: ModelSpec) -> list[Request]:
    """Texts longer than the windows, greedy and drawn."""
    rng = np.random.default_rng(0)
    return [
        Request(
            str(n), rng.integers(0, 60, 3 + 5 * n).tolist(), 26, temperature=(1.0, 0.0, 0.7)[n % 3], top_p=0.95, seed=n
        )
        for n in range(6)
    ]


def pictures(spec: ModelSpec) -> tuple[list[np.ndarray], list[Patches]]:
    assert spec.vision is not None
    config, rng = ImageConfig.of(spec.vision), np.random.default_rng(1)
    pixels = [rng.integers(0, 256, (28 * h, 28 * w, 3), dtype=np.uint8) for h, w in ((2, 3), (3, 2))]
    return pixels, [patches(image, config) for image in pixels]


def agree(
    made: Decoder, requests: list[Request], done: list[Completion], shown: list[np.ndarray] | None = None
) -> bool:
    """Whether the engine said of its tokens what the trainer says."""
    answers = [Sampled(r.prompt, c.tokens, c.logprobs) for r, c in zip(requests, done, strict=True)]
    batch = lay_out(answers, 96, 1)
    images = None
    if shown is not None:  # in the order in which the rows hold their places
        images = [[] for _ in range(len(batch.tokens_BL))]
        for row, held in zip(batch.sequence_BL, images, strict=True):
            for sequence in dict.fromkeys(row[row >= 0].tolist()):
                held += [shown[0], shown[1]] if requests[sequence].images else []
    runner = Runner(made, torch.float32, compile=False)
    logp = runner.logp(batch.tokens_BL, batch.docs_BL, batch.targets_BL, images).view(batch.old_BL.shape)
    learned = torch.from_numpy(batch.sequence_BL >= 0)
    assert int(learned.sum()) == sum(len(c.tokens) for c in done) > 50
    gap = (logp - torch.from_numpy(batch.old_BL))[learned].abs()
    print(f"mean {gap.mean():.1e}, most {gap.max():.1e}")
    return float(gap.mean()) <= MEAN and float(gap.max()) <= MOST


@pytest.mark.parametrize("name", FAMILIES)
def test_torch_path(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "load", lambda _: None)
    made = model(FAMILIES[name])
    requests = asked(made.spec)
    for options in ({"slots": 2, "chunk": 5}, {"slots": 6, "draft": 2}):
        engine = Engine(made, **options)
        assert engine._forward._native is None
        assert agree(made, requests, engine.complete(requests))


@pytest.mark.skipif(load("decode") is None, reason="no C++ compiler")
@pytest.mark.parametrize("name", FAST)
def test_native_path(name: str) -> None:
    made = model(replace(FAST[name], width=48, head_dim=16, ffn=80))
    requests = asked(made.spec)
    for options in ({"slots": 2, "chunk": 5}, {"slots": 6, "draft": 2}):
        engine = Engine(made, **options)
        assert engine._forward._native is not None
        assert agree(made, requests, engine.complete(requests))


@pytest.mark.parametrize(
    "fast", [False, pytest.param(True, marks=pytest.mark.skipif(not load("decode"), reason="no C++"))]
)
def test_prompts_with_images(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not fast:
        monkeypatch.setattr(native, "load", lambda _: None)
    made = model(replace(SPECS["exaone4_5"], width=48, head_dim=16, ffn=80, context=96))
    assert made.spec.vision is not None
    pixels, cut = pictures(made.spec)
    places = [[made.spec.vision.image_token] * token_count(image.grid, made.spec.vision.merge) for image in cut]
    sees = [
        Request(f"s{n}", [3 + n, 4, *places[0], 5, *places[1], 6, 7], 20, seed=n, images=tuple(cut)) for n in range(3)
    ]
    requests = [*sees, *asked(made.spec)]
    engine = Engine(made, slots=4, chunk=6)
    assert (engine._forward._native is not None) == fast
    assert agree(made, requests, engine.complete(requests), pixels)


def test_a_model_in_training_is_followed() -> None:
    made = model(FAMILIES["ours, hybrid"]).requires_grad_(True)
    engine, requests = Engine(made, slots=4), asked(made.spec)
    before = engine.complete(requests)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * 0.02)
    after = engine.complete(requests)
    assert agree(made, requests, after) and not agree(made, requests, before)
