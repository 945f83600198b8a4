"""The vision tower beside transformers' EXAONE 4.5, and images among tokens."""

import pytest
import torch

from dokja.errors import DataError
from dokja.model.decoder import Decoder
from dokja.model.spec import ModelSpec, VisionSpec
from dokja.model.vision import Images, Tower
from dokja.train.optim import Optimizer, row_splits

SPEC = VisionSpec(layers=3, width=64, heads=4, kv_heads=2, ffn=80, full=(1,), image_token=11, patch=4, window=32)
TEXT = ModelSpec(
    vocab=300, width=48, layers=2, heads=3, kv_heads=1, head_dim=16, ffn=64, context=256, pattern="G", vision=SPEC
)
GRIDS = ((1, 8, 8), (1, 10, 22))  # windows of 8 x 8 patches: the second image has cut ones at both edges
BLOCK = {
    "norm1": ["norm1.weight"], "norm2": ["norm2.weight"], "qkv_weight": ["attn.qkv.weight"],
    "qkv_bias": ["attn.qkv.bias"], "out_weight": ["attn.proj.weight"], "out_bias": ["attn.proj.bias"],
    "up_weight": ["mlp.gate_proj.weight", "mlp.up_proj.weight"], "up_bias": ["mlp.gate_proj.bias", "mlp.up_proj.bias"],
    "down_weight": ["mlp.down_proj.weight"], "down_bias": ["mlp.down_proj.bias"],
}  # fmt: skip
MERGER = {"norm": "ln_q.weight", "up_weight": "mlp.0.weight", "up_bias": "mlp.0.bias", "down_weight": "mlp.2.weight"}


def random_tower(seed: int = 0) -> Tower:
    gen, tower = torch.Generator().manual_seed(seed), Tower(SPEC, TEXT.width)
    with torch.no_grad():
        for p in tower.parameters():
            p.normal_(0.0, 0.2, generator=gen)
    return tower


def some(grids, seed: int = 0) -> torch.Tensor:
    patches = sum(t * h * w for t, h, w in grids)
    return torch.randn(patches, SPEC.patch_values, generator=torch.Generator().manual_seed(seed))


def peer(tower: Tower):
    pytest.importorskip("transformers")
    from transformers.models.exaone4_5.configuration_exaone4_5 import Exaone4_5_VisionConfig
    from transformers.models.exaone4_5.modeling_exaone4_5 import Exaone4_5_VisionModel

    model = Exaone4_5_VisionModel(
        Exaone4_5_VisionConfig(
            depth=3, hidden_size=64, intermediate_size=80, num_heads=4, num_key_value_heads=2, patch_size=4,
            window_size=32, out_hidden_size=48, fullatt_block_indexes=[1],
        )
    )  # fmt: skip
    w = {"patch_embed.proj.weight": tower.patch_weight.view(64, 3, 2, 4, 4)}
    for i, block in enumerate(tower.blocks):
        for ours, names in BLOCK.items():
            parts = getattr(block, ours).chunk(len(names))
            w |= {f"blocks.{i}.{name}": part for name, part in zip(names, parts, strict=True)}
    w |= {f"merger.{theirs}": getattr(tower, f"merger_{ours}") for ours, theirs in MERGER.items()}
    model.load_state_dict(w | {"merger.mlp.2.bias": tower.merger_down_bias})
    return model


@pytest.mark.parametrize("grids", [GRIDS, ((2, 6, 18), (1, 2, 2))])
def test_features_are_those_of_transformers(grids):
    tower, values = random_tower(), some(grids)
    theirs = peer(tower)(values, grid_thw=torch.tensor(grids)).pooler_output
    torch.testing.assert_close(tower(values, grids), theirs, atol=1e-5, rtol=0)


def test_images_do_not_see_one_another():
    tower, grids = random_tower(), (*GRIDS, (1, 8, 8), (1, 4, 2))
    values = some(grids)
    together = tower(values, grids)
    alone = [tower(v, (g,)) for v, g in zip(values.split([h * w for _, h, w in grids]), grids, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)


def test_a_window_sees_itself_only_and_a_full_block_the_whole_image():
    tower, values = random_tower(), some(((1, 8, 16),)).requires_grad_()
    changed = values.detach().clone()
    changed[-1] += 1  # a patch of the right window
    for full, reached in (((1,), True), ((), False)):
        object.__setattr__(tower, "spec", VisionSpec(**{**SPEC.__dict__, "full": full}))
        a, b = tower(values, ((1, 8, 16),)), tower(changed, ((1, 8, 16),))
        left = (a - b).abs().amax(1).view(4, 8)[:, :4]
        assert bool((left > 0).all()) is reached
        assert bool((left > 0).any()) is reached


def test_counts_and_bf16():
    model = Decoder(TEXT).init_weights(0)
    assert sum(p.numel() for p in model.vision.parameters()) == TEXT.vision_params
    assert sum(p.numel() for p in model.parameters()) == TEXT.params
    tower, values = random_tower(), some(GRIDS)
    low = tower(values, GRIDS, torch.bfloat16)
    assert low.dtype == torch.bfloat16
    assert (low.float() - tower(values, GRIDS)).abs().max() < 0.1


def test_a_fresh_tower_speaks_at_the_scale_of_the_text():
    model = Decoder(TEXT).init_weights(0)
    assert 0.3 < float(model.vision(some(GRIDS), GRIDS).detach().std()) < 1.2
    again = Decoder(TEXT).init_weights(0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_features_take_the_places_of_the_image_token_in_order():
    model, values = Decoder(TEXT).init_weights(0), some(GRIDS)
    tokens = torch.tensor([[1, *[11] * 16, 5], [*[11] * 18]])
    images = Images(values[: 8 * 8 + 72], ((1, 8, 8), (1, 6, 12)))
    x = model.embedded(tokens, images=images)
    torch.testing.assert_close(x[tokens == 11], model.vision(images.values, images.grids))
    torch.testing.assert_close(x[tokens != 11], model.embed[tokens[tokens != 11]])
    assert torch.equal(model.embedded(tokens), model.embed[tokens])


def test_what_does_not_match_is_refused_with_a_sentence():
    model, images = Decoder(TEXT).init_weights(0), Images(some(((1, 4, 4),)), ((1, 4, 4),))
    with pytest.raises(DataError, match="3 places for images whose features take 4"):
        model.embedded(torch.tensor([11, 11, 11, 2]), images=images)
    with pytest.raises(DataError, match="do not fit"):
        model.vision(images.values, ((1, 4, 6),))
    with pytest.raises(DataError, match="numbers"):
        model.vision(images.values[:, :-1], ((1, 4, 4),))
    blind = Decoder(ModelSpec(**{**TEXT.__dict__, "vision": None})).init_weights(0)
    with pytest.raises(DataError, match="no vision tower"):
        blind.embedded(torch.tensor([11] * 4), images=images)


def test_gradients_reach_every_parameter_of_the_tower_and_muon_splits_them():
    model = Decoder(TEXT)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0.0, 0.2, generator=torch.Generator().manual_seed(1))
    tokens = torch.tensor([[1, *[11] * 16, 5]])
    with torch.inference_mode():  # what sampling leaves behind must not trouble training
        model(tokens, images=Images(some(((1, 8, 8),)), ((1, 8, 8),)))
    model(tokens, images=Images(some(((1, 8, 8),)), ((1, 8, 8),))).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.vision.parameters())
    assert row_splits(model, "vision.blocks.0.qkv_weight", 128) == [64, 32, 32]
    assert row_splits(model, "vision.blocks.0.up_weight", 160) == [80, 80]
    assert row_splits(model, "vision.merger_up_weight", 256) == [256]
    rates = dict.fromkeys(("lr_matrix", "lr_embed", "lr_head", "lr_other"), 0.01)
    optimizer = Optimizer(model, rates, 0.0)
    assert {n for n in optimizer.matrices if n.startswith("vision.")} == {
        f"vision.{n}" for n, p in model.vision.named_parameters() if p.ndim == 2
    }
    before = {n: p.clone() for n, p in model.vision.named_parameters()}
    optimizer.step(1.0)
    assert all(not torch.equal(before[n], p) for n, p in model.vision.named_parameters())


def test_the_whole_of_exaone_4_5_scores_as_transformers_does_and_so_does_its_export(tmp_path):
    modeling = pytest.importorskip("transformers.models.exaone4_5.modeling_exaone4_5")
    from transformers.models.exaone4_5.configuration_exaone4_5 import Exaone4_5_Config

    from dokja.model.families import export, load_model

    text = {
        "model_type": "exaone4", "vocab_size": 300, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 4,
        "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16, "sliding_window": 16,
        "sliding_window_pattern": "LLLG", "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
        "max_position_embeddings": 256, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    }  # fmt: skip
    tower = {
        "depth": 3, "hidden_size": 64, "intermediate_size": 80, "num_heads": 4, "num_key_value_heads": 2,
        "patch_size": 4, "window_size": 32, "out_hidden_size": 48, "fullatt_block_indexes": [1],
    }  # fmt: skip
    config = Exaone4_5_Config(text_config=text, vision_config=tower, image_token_id=11, video_token_id=12)
    theirs = modeling.Exaone4_5_ForConditionalGeneration(config).eval()
    gen = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in theirs.parameters():
            p.normal_(0.0, 0.15, generator=gen)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_model(tmp_path / "theirs")
    assert ours.spec.vision == VisionSpec(**{**SPEC.__dict__, "video_token": 12})
    export(ours.spec, dict(ours.named_parameters()), tmp_path / "ours", {"bos": 1, "eos": 2, "pad": 0})
    exported = modeling.Exaone4_5_ForConditionalGeneration.from_pretrained(tmp_path / "ours").eval()

    ids, values = torch.tensor([[1, 5, *[11] * 16, 7, 9, *[11] * 55, 8, 20, 21]]), some(GRIDS)
    with torch.no_grad():
        logits = ours(ids, images=Images(values, GRIDS))
        other = ours(ids, images=Images(some(GRIDS, seed=1), GRIDS))
        for peer_model in (theirs, exported):
            want = peer_model(input_ids=ids, pixel_values=values, image_grid_thw=torch.tensor(GRIDS)).logits
            torch.testing.assert_close(logits, want, atol=1e-5, rtol=0)
    assert (logits - other)[0, -1].abs().max() > 0.01
