"""The nine published shapes: parameters, caches and configs as published (kept as recipes in recipes/shapes)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dokja.model.decoder import Decoder
from dokja.model.families import family_of, layout_of, spec_of
from dokja.model.spec import ModelSpec
from dokja.recipe.load import load_recipe

SHAPES = Path(__file__).parent.parent.parent / "recipes" / "shapes"
GIB, MIB = 2**30, 2**20

# text, multi-token head, vision tower; layout
PUBLISHED = {
    "3.0-7.8b": (7_818_448_896, 0, 0, "exaone"),
    "deep-2.4b": (2_405_327_360, 0, 0, "exaone"),
    "deep-7.8b": (7_818_448_896, 0, 0, "exaone"),
    "deep-32b": (32_003_200_000, 0, 0, "exaone"),
    "4.0-1.2b": (1_279_391_488, 0, 0, "exaone4"),
    "4.0-32b": (32_003_216_384, 0, 0, "exaone4"),
    "4.5-33b": (32_527_504_384, 536_110_336, 1_286_482_944, "exaone4_5"),
    "k-236b-a23b": (236_571_156_352, 528_513_280, 0, "exaone_moe"),
    "k2-750b-a37b": (748_828_971_520, 528_513_280, 0, "exaone_moe"),
}


def shape(name: str) -> ModelSpec:
    recipe = load_recipe(SHAPES / f"{name}.toml")
    return ModelSpec.from_dict({"vocab": recipe.tokenizer.vocab, **recipe.model.model_dump()})


def test_there_is_a_recipe_for_every_published_shape() -> None:
    assert {path.stem for path in SHAPES.glob("*.toml")} == set(PUBLISHED)
    assert all(path.read_text().startswith("# ") for path in SHAPES.glob("*.toml"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_equal_the_published_totals(name: str) -> None:
    spec, (text, mtp, vision, _) = shape(name), PUBLISHED[name]
    with torch.device("meta"):
        model = Decoder(spec)
    counted = {"text": 0, "mtp": 0, "vision": 0}
    for key, p in model.named_parameters():
        room = key.split(".")[0]
        counted[room if room in counted else "text"] += p.numel()
    assert counted == {"text": text, "mtp": mtp, "vision": vision}
    assert (spec.text_params, spec.mtp_params, spec.vision_params) == (text, mtp, vision)
    assert spec.params == text + mtp + vision


@pytest.mark.parametrize(("name", "billions"), [("k-236b-a23b", "22.72"), ("k2-750b-a37b", "36.40")])
def test_active_parameters_equal_the_published_figures(name: str, billions: str) -> None:
    assert f"{shape(name).active_params / 1e9:.2f}" == billions


@pytest.mark.parametrize(
    ("name", "tokens", "far", "near", "full"),
    [
        ("4.0-32b", 131072, 8 * GIB, 0.75 * GIB, 32 * GIB),
        ("k-236b-a23b", 262144, 12 * GIB, 18 * MIB, 48 * GIB),
        ("k2-750b-a37b", 262144, 20 * GIB, 44.5 * MIB, 78 * GIB),
    ],
)
def test_key_and_value_bytes_equal_the_published_table(
    name: str, tokens: int, far: float, near: float, full: float
) -> None:
    spec = shape(name)
    layer = 2 * spec.kv_heads * spec.head_dim * 2
    windows = [layer_spec.window for layer_spec in spec.layer_specs]
    assert layer == 4096  # bytes a token and layer
    assert sum(layer * tokens for w in windows if w is None) == far
    assert sum(layer * w for w in windows if w) == near
    assert spec.kv_bytes(tokens) == far + near
    assert layer * tokens * spec.layers == full


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_config_that_is_written_reads_back_as_the_same_shape(name: str) -> None:
    spec, layout = shape(name), PUBLISHED[name][3]
    assert family_of(spec) == layout
    config = layout_of(layout).config_from(spec, {"bos": 1, "eos": 361, "pad": 0})
    assert config["model_type"] == layout
    assert spec_of(config) == spec
