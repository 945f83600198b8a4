"""Training on images: gradients of micro batches add up, and a killed run ends bit for bit where a whole one does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dokja.data.loader import Loader
from dokja.data.shards import ShardSet, ShardWriter
from dokja.ledger.metrics import TIMING_KEYS, read_metrics
from dokja.model.decoder import Decoder
from dokja.model.spec import ModelSpec, VisionSpec
from dokja.recipe.schema import TrainConfig
from dokja.tasks.registry import get_tasks
from dokja.tasks.splits import train_stream
from dokja.text.chat import IMAGE, SPECIALS
from dokja.train.compiled import Runner
from dokja.train.loop import Plan, step_gradients, train
from dokja.train.objectives import Language

VOCAB, SEQ, ROWS, STEPS = 32, 40, 6, 10
PLACE = SPECIALS.index(IMAGE)
CPU = torch.device("cpu")


class Killed(Exception):
    """Stands in for SIGKILL."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Which colour fills an image: two shapes of images, and texts without any."""
    folder, rng = tmp_path_factory.mktemp("shards") / "colours", np.random.default_rng(0)
    with ShardWriter(folder, VOCAB) as writer:
        for n in range(200):
            colour, wide = int(rng.integers(0, 4)), n % 2
            pixels = np.zeros((32, 64, 3) if wide else (32, 32, 3), np.uint8)
            pixels[..., :] = 60 * colour
            noise = rng.integers(0, 30, pixels.shape).astype(np.uint8)
            ids = [1, *[PLACE] * (8 if wide else 4), 20, 24 + colour, 2]
            if n % 9:
                writer.add(ids, [0] * (len(ids) - 2) + [1, 0], images=[pixels + noise])
            else:
                writer.add([1, 20, 21, 2], [0, 0, 1, 0])
    return ShardSet.open(folder)


def new_model():
    eye = VisionSpec(layers=1, width=16, heads=2, kv_heads=1, ffn=16, full=(0,), image_token=PLACE,
                     patch=8, temporal_patch=1, merge=2, window=32)  # fmt: skip
    spec = ModelSpec(vocab=VOCAB, width=32, layers=2, heads=2, kv_heads=1, head_dim=16, ffn=48, context=SEQ, window=16,
                     vision=eye)  # fmt: skip
    return Decoder(spec).init_weights(0)


def plan_of(folder, shards, **options):
    c = TrainConfig(
        tokens=STEPS * ROWS * SEQ, seq_len=SEQ, batch_tokens=ROWS * SEQ, optimizer="muon", weight_decay=0.1,
        lr_matrix=0.02, lr_embed=0.02, lr_head=0.02, lr_other=0.01, decay=0.3, checkpoint_every=3, eval_every=5,
    )  # fmt: skip
    loader = Loader([(shards, 1.0)], SEQ, ROWS, 0)
    learned = Language(np.ones(VOCAB, np.int64))
    rows = options.pop("rows", ROWS)
    return Plan(c, STEPS, learned, loader, rows, Path(folder), {}, say=lambda s: None, compile=False, **options)


def run(folder, shards, **options):
    torch.use_deterministic_algorithms(True)
    try:
        model = new_model()
        train(model, plan_of(folder, shards, **options), CPU, torch.float32)
        return model
    finally:
        torch.use_deterministic_algorithms(False)


def state(folder):
    files = sorted((Path(folder) / "checkpoints" / f"step_{STEPS:08d}").glob("*.safetensors"))
    return {(f.name, name): t for f in files for name, t in load_file(f).items()}


def lines(folder):
    return [{k: v for k, v in r.items() if k not in TIMING_KEYS} for r in read_metrics(Path(folder) / "metrics.jsonl")]


def test_a_killed_run_ends_bit_for_bit_as_a_whole_one(shards, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    model = run(whole, shards)

    def kill(done, text):
        if done == 5:
            raise Killed

    with pytest.raises(Killed):
        run(cut, shards, progress=kill)
    run(cut, shards)
    one, two = state(whole), state(cut)
    assert one.keys() == two.keys() and [k for k in one if not torch.equal(one[k], two[k])] == []
    assert lines(whole) == lines(cut) and len(lines(whole)) == STEPS
    start = new_model()
    moved = [n for n, p in model.named_parameters() if not torch.equal(p, start.get_parameter(n))]
    assert {n for n, _ in model.named_parameters() if n.startswith("vision.")} <= set(moved)


def gradients(shards, rows):
    model = new_model()
    torch.nn.init.normal_(model.head, std=0.1, generator=torch.Generator().manual_seed(1))
    plan = plan_of("unused", shards, rows=rows)
    step_gradients(Runner(model, torch.float32, False, rows), plan, plan.source.batch(1), 0.0)
    return {n: p.grad for n, p in model.named_parameters()}


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_micro_batches_with_images_add_up_to_one_batch(shards, rows):
    one, parts = gradients(shards, ROWS), gradients(shards, rows)
    assert float(one["vision.patch_weight"].abs().max()) > 0
    for name in one:
        torch.testing.assert_close(parts[name], one[name], rtol=1e-4, atol=1e-6, msg=name)


def test_rows_of_a_batch_do_not_see_each_others_images(shards):
    runner, batch = Runner(new_model(), torch.float32, False, ROWS), Loader([(shards, 1.0)], SEQ, ROWS, 0).batch(0)
    torch.nn.init.normal_(runner.model.head, std=0.1, generator=torch.Generator().manual_seed(1))
    arrays = (batch.tokens_BL, batch.docs_BL, batch.targets_BL)
    whole = runner.logp(*arrays, batch.images).view(ROWS, SEQ)
    for n in range(ROWS):
        alone = runner.logp(*(a[n : n + 1] for a in arrays), batch.images[n : n + 1]).view(1, SEQ)
        torch.testing.assert_close(alone[0], whole[n], rtol=1e-4, atol=1e-5)
    assert runner.nats(*arrays, batch.images) == pytest.approx(-float(whole.sum()), rel=1e-6)


def test_a_batch_without_any_image_trains_the_rest(tmp_path):
    with ShardWriter(tmp_path / "text", VOCAB) as writer:
        for n in range(60):
            writer.add([1, 20 + n % 4, 25 + n % 4, 2])
    model = run(tmp_path / "run", ShardSet.open(tmp_path / "text"))
    assert not torch.equal(model.embed, new_model().embed)


def test_drawn_problems_pass_through_the_runner():
    from dokja.text.images import ImageConfig, patches, token_count

    model = new_model()
    config = ImageConfig.of(model.spec.vision)
    for p in train_stream(get_tasks(["sight"]), 6, 0):
        count = token_count(patches(p.images[0], config).grid, config.merge)
        tokens = np.array([[1, *[PLACE] * count, 20, 2]])
        docs, targets = np.ones_like(tokens, dtype=np.int32), np.roll(tokens, -1, 1)
        logp = Runner(model, torch.float32, False).logp(tokens, docs, targets, (p.images,))
        assert torch.isfinite(logp).all() and count == 16


def test_the_towers_flops_are_those_of_its_matrices_and_pairs():
    from torch.utils.flop_counter import FlopCounterMode

    from dokja.model.vision import Images, training_flops
    from dokja.text.images import ImageConfig, patches

    eye = VisionSpec(layers=2, width=16, heads=2, kv_heads=1, ffn=24, full=(1,), image_token=PLACE,
                     patch=8, temporal_patch=1, merge=2, window=32)  # fmt: skip
    spec = ModelSpec(vocab=VOCAB, width=32, layers=2, heads=2, kv_heads=1, head_dim=16, ffn=48, context=SEQ, window=16,
                     vision=eye)  # fmt: skip
    model, pixels = Decoder(spec).init_weights(0), [np.zeros((32, 64, 3), np.uint8), np.zeros((48, 32, 3), np.uint8)]
    images = Images.of([patches(i, ImageConfig.of(eye)) for i in pixels])
    with FlopCounterMode(display=False) as counter:
        model.vision(images.values, images.grids)
    matrices, attention = training_flops(pixels, eye, spec.width)
    counted = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    products = sum(n for op, n in counted.items() if "mm" in op)
    assert matrices / 3 == products  # forward is a third of training
    assert attention == 12 * 16 * ((16 * 16 * 2 + 16 * 16 + 8 * 8) + (32 * 32 + 24 * 24))
