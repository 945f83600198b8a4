"""The dial: what follows from `scale`, and that nothing written is touched."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from dokja.errors import ConfigError
from dokja.recipe.check import check
from dokja.recipe.derive import batch_rows, derive, half_divisor, parameters
from dokja.recipe.load import explain_recipe
from dokja.recipe.schema import Recipe

STAGES: dict[str, Any] = {"pretrain": {}, "context": {}, "sft": {}}


def recipe(scale: int, **more: Any) -> Recipe:
    return Recipe.model_validate({"name": "r", "scale": scale, **more})


@given(st.integers(1, 64), st.sampled_from(["LLLG", "G", "L", "LG"]), st.sampled_from(["swiglu", "relu2"]))
@settings(deadline=None)
def test_every_scale_gives_a_recipe_that_can_be_built(scale: int, pattern: str, activation: str) -> None:
    whole, _ = derive(recipe(scale, model={"pattern": pattern, "activation": activation}, **STAGES))
    check(whole)


def gaps(section: BaseModel, prefix: str = "") -> list[str]:
    found = []
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            found += gaps(value, f"{prefix}{name}.")
        elif value is None:
            found.append(f"{prefix}{name}")
    return found


def test_only_what_may_be_absent_is_left_open() -> None:
    whole, _ = derive(recipe(4, **STAGES))
    assert {gap.rpartition(".")[2] for gap in gaps(whole)} == {
        "threads", "init", "lora", "ema", "preference", "rl", "rope_scaling", "moe", "mtp", "vision",
        "balance_rate", "balance_loss",
    }  # fmt: skip


def test_only_a_mixture_of_experts_is_balanced_and_a_short_run_moves_its_biases_faster() -> None:
    whole, _ = derive(recipe(4, model={"moe": {"experts": 8, "active": 2}}, pretrain={"tokens": 8_000_000}, sft={}))
    assert whole.pretrain and whole.sft
    assert (whole.sft.balance_rate, whole.pretrain.balance_loss) == (0.01, 0.0001)
    long, _ = derive(recipe(4, model={"moe": {"experts": 8, "active": 2}}, pretrain={"tokens": 10**12}))
    assert long.pretrain and long.pretrain.balance_rate == 0.0001
    check(whole)
    bare, _ = derive(recipe(4, pretrain={"balance_rate": 0.1}))
    with pytest.raises(ConfigError, match=r"pretrain\.balance_rate.*no experts"):
        check(bare)


@given(st.integers(1, 12), st.integers(1, 4096))
@settings(deadline=None)
def test_a_written_key_is_never_touched(scale: int, ffn: int) -> None:
    whole, rows = derive(recipe(scale, model={"ffn": ffn}), {"model.ffn": "set in r.toml"})
    assert whole.model.ffn == ffn
    assert [(row.formula, row.source) for row in rows if row.key == "model.ffn"] == [("", "set in r.toml")]


def test_values_at_scale_four_are_those_of_the_formulas() -> None:
    whole, rows = derive(recipe(4, **STAGES))
    model = whole.model
    assert (model.layers, model.width, model.head_dim, model.heads, model.kv_heads) == (4, 256, 32, 8, 4)
    assert model.ffn == 704 and model.ffn % 32 == 0 and model.ffn >= 8 / 3 * 256 > model.ffn - 32
    assert (model.context, model.window, whole.tokenizer.vocab) == (512, 128, 4096)
    # 4 layers of q, k, v, o (2·256·(8+4)·32) and three 256 x 704 matrices, and a 4096 x 256 head
    assert parameters(model, 4096) == 4 * (2 * 256 * 12 * 32 + 3 * 256 * 704) + 4096 * 256
    assert whole.pretrain is not None and whole.sft is not None
    assert whole.pretrain.tokens == 20 * parameters(model, 4096)
    assert whole.sft.lr_matrix == pytest.approx(0.3 * whole.pretrain.lr_matrix)
    formulas = {row.key: row.formula for row in rows}
    assert formulas["model.width"] == "64 · scale 4" and "parameters" in formulas["pretrain.tokens"]


def test_an_unset_context_follows_the_longest_row() -> None:
    whole, _ = derive(recipe(2, pretrain={"seq_len": 64}, sft={"seq_len": 192}))
    assert whole.model.context == 192


def test_context_stage_makes_pretraining_rows_shorter() -> None:
    alone, _ = derive(recipe(4, pretrain={}))
    longer, _ = derive(recipe(4, pretrain={}, context={}))
    assert alone.pretrain is not None and longer.pretrain is not None and longer.context is not None
    assert alone.pretrain.seq_len == 512
    assert (longer.pretrain.seq_len, longer.context.seq_len) == (128, 512)


@given(st.integers(1, 256))
def test_kv_heads_divide_heads(heads: int) -> None:
    kv = half_divisor(heads)
    assert heads % kv == 0 and (kv <= heads // 2 or heads == kv == 1)


@given(st.integers(64, 10**12), st.integers(1, 64))
def test_batch_is_whole_rows_and_fits_the_stage(tokens: int, seq_len: int) -> None:
    rows = batch_rows(tokens, seq_len)
    assert rows & (rows - 1) == 0 and rows * seq_len <= tokens


def test_steps_round_up_to_the_tokens_asked_for() -> None:
    whole, _ = derive(recipe(1, pretrain={"tokens": 1000, "batch_tokens": 300, "seq_len": 100}))
    assert whole.pretrain is not None and whole.pretrain.steps == 4


def test_every_key_in_use_has_one_row() -> None:
    path = Path(__file__).parents[2] / "recipes" / "tiny.toml"
    _, rows = explain_recipe(path)
    keys = [row.key for row in rows]
    assert len(keys) == len(set(keys))
    assert {"scale", "model.width", "pretrain.lr_matrix", "judge.budget", "release.name"} <= set(keys)
    assert all(row.formula for row in rows if row.source == "derived")


def test_the_image_token_is_the_markers_id():
    from dokja.recipe.derive import IMAGE_TOKEN
    from dokja.text.chat import IMAGE, SPECIALS

    assert SPECIALS[IMAGE_TOKEN] == IMAGE


def test_two_tokens_ahead_are_learned_where_there_is_a_head_for_it() -> None:
    with_head, rows = derive(recipe(4, model={"mtp": {}}, pretrain={}, sft={"mtp_loss": 0.0}))
    assert with_head.pretrain and with_head.pretrain.mtp_loss == 0.1
    assert with_head.sft and with_head.sft.mtp_loss == 0.0
    assert any(row.key == "pretrain.mtp_loss" and row.formula for row in rows)
    bare, _ = derive(recipe(4, pretrain={}))
    assert bare.pretrain and bare.pretrain.mtp_loss == 0.0
