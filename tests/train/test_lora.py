"""Low-rank pairs: nothing changes at step 0, only pairs learn, merged is what was trained, and PEFT reads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dokja.errors import ConfigError
from dokja.model.decoder import Decoder
from dokja.model.families import export, load_model
from dokja.model.spec import ModelSpec, MoeSpec
from dokja.recipe.schema import LoraConfig
from dokja.train import lora
from dokja.train.compiled import Runner
from dokja.train.optim import Optimizer

SPEC = ModelSpec(
    vocab=300, width=64, layers=3, heads=4, kv_heads=2, head_dim=16, ffn=96, context=64, pattern="LG", window=8
)
PAIRS = LoraConfig(rank=4, alpha=8.0)
RATES = {"lr_matrix": 0.01, "lr_embed": 0.01, "lr_head": 0.01, "lr_other": 0.01, "lr_lora": 0.01}


def base(spec: ModelSpec = SPEC) -> Decoder:
    model = Decoder(spec).init_weights(0)
    with torch.no_grad():
        model.head_weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    return model


def tokens() -> torch.Tensor:
    return torch.randint(0, SPEC.vocab, (2, 24), generator=torch.Generator().manual_seed(2))


def with_pairs(model: Decoder, settings: LoraConfig = PAIRS, moved: bool = True) -> Decoder:
    """The model with pairs; `moved`: as if they had been trained."""
    lora.attach(model, settings, seed=3)
    gen = torch.Generator().manual_seed(4)
    for p in lora.state_of(model).values() if moved else ():
        p.data.add_(torch.randn(p.shape, generator=gen) * 0.05)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_step_zero_is_the_base_bit_for_bit(dtype: torch.dtype) -> None:
    plain, adapted = base(), with_pairs(base(), moved=False)
    with torch.no_grad():
        assert torch.equal(plain.hidden(tokens(), dtype=dtype), adapted.hidden(tokens(), dtype=dtype))


def test_merged_weights_answer_as_the_pairs_did() -> None:
    model = with_pairs(base())
    copy = base()
    with torch.no_grad():
        adapted = model(tokens())
        lora.merge_into(model, copy)
        lora.merge(model)
        merged = model(tokens())
        assert not torch.allclose(merged, base()(tokens()), atol=1e-2)
        torch.testing.assert_close(merged, adapted, atol=2e-4, rtol=2e-4)
        assert torch.equal(merged, copy(tokens()))
    assert set(dict(model.named_parameters())) == set(dict(base().named_parameters()))


def test_only_pairs_learn_and_only_they_have_gradients_and_state() -> None:
    model = with_pairs(base(), moved=False)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = Optimizer(model, RATES, 0.1)
    rows = tokens().numpy()
    docs, weights = np.ones_like(rows, np.int32), np.full(rows.shape, 1 / rows.size, np.float32)
    losses = []
    for _ in range(20):
        losses.append(Runner(model, torch.float32, compile=False).backward(rows, docs, np.roll(rows, -1, 1), weights))
        assert {n for n, p in model.named_parameters() if p.grad is not None} == set(lora.state_of(model))
        optimizer.step(1.0)
        model.zero_grad(set_to_none=True)
    assert losses[-1] < 0.9 * losses[0]
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == set(lora.state_of(model)) == {n for n in before if ".lora." in n}
    assert {key.split(".", 1)[1].rpartition(".")[0] for key in optimizer.state()} == changed


def test_gradients_of_the_pairs_are_those_of_the_merged_matrix() -> None:
    """dB = dW A^T and dA = B^T dW, times alpha / rank, part by part."""
    model, dense = with_pairs(base()), base()
    lora.merge_into(model, dense)
    for m in (model, dense):
        m(tokens()).square().mean().backward()
    for i, block in enumerate(model.blocks):
        for name, pair in (block.lora or {}).items():
            full = getattr(dense.blocks[i], name).grad
            for part, (rows, b) in enumerate(zip(full.split(pair.splits), pair.b.split(pair.splits), strict=True)):
                r = slice(part * pair.rank, (part + 1) * pair.rank)
                torch.testing.assert_close(pair.a.grad[r], pair.scale * b.T @ rows, atol=1e-6, rtol=1e-3)
            expected = torch.cat([
                pair.scale * rows @ a.T
                for rows, a in zip(full.split(pair.splits), pair.a.split(pair.rank), strict=True)
            ])  # fmt: skip
            torch.testing.assert_close(pair.b.grad, expected, atol=1e-6, rtol=1e-3)


def test_a_bf16_base_stays_bf16_and_its_pairs_fp32(tmp_path: Path) -> None:
    export(SPEC, dict(base().named_parameters()), tmp_path, {"bos": 0, "eos": 1, "pad": 2}, dtype=torch.bfloat16)
    model = with_pairs(load_model(tmp_path, "auto"), moved=False)
    kinds = {n: p.dtype for n, p in model.named_parameters() if p.ndim > 1}
    assert {d for n, d in kinds.items() if ".lora." in n} == {torch.float32}
    assert {d for n, d in kinds.items() if ".lora." not in n} == {torch.bfloat16}


def test_only_the_targets_have_pairs() -> None:
    model = with_pairs(base(), LoraConfig(rank=2, alpha=4.0, targets=("qkv", "down")))
    assert {n.split(".")[3] for n in lora.state_of(model)} == {"qkv_weight", "down_weight"}


def test_a_target_that_no_layer_has_is_refused() -> None:
    spec = replace(SPEC, norm="pre", moe=MoeSpec(experts=4, active=2, ffn=16, dense=0))
    with pytest.raises(ConfigError, match=r"'up'.*experts take no pairs"):
        lora.attach(Decoder(spec), PAIRS, 0)


def test_peft_reads_the_adapter_and_gives_the_same_logits(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    model = base()
    export(SPEC, dict(model.named_parameters()), tmp_path / "base", {"bos": 0, "eos": 1, "pad": 2})
    with_pairs(model)
    lora.export_adapter(model, tmp_path / "base", "0" * 64, tmp_path / "adapter", PAIRS)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    with torch.no_grad():
        torch.testing.assert_close(adapted(tokens()).logits, model(tokens()), atol=2e-4, rtol=2e-4)


def test_the_adapter_names_every_module_and_its_base(tmp_path: Path) -> None:
    """What PEFT reads, where PEFT is not installed."""
    import json

    from safetensors.torch import load_file

    model = base()
    export(SPEC, dict(model.named_parameters()), tmp_path / "base", {"bos": 0, "eos": 1, "pad": 2})
    with_pairs(model)
    lora.export_adapter(model, tmp_path / "base", "ab" * 32, tmp_path, PAIRS)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (4, 8.0, "LORA")
    assert json.loads((tmp_path / "base.json").read_text())["sha256"] == "ab" * 32
    found = load_file(tmp_path / "adapter_model.safetensors")
    assert len(found) == 3 * 7 * 2
    theirs = load_file(tmp_path / "base" / "model.safetensors")
    merged = with_pairs(base())
    lora.merge(merged)
    for module, ours, rows in (
        ("model.layers.1.self_attn.k_proj", "qkv_weight", slice(64, 96)),
        ("model.layers.1.mlp.up_proj", "up_weight", slice(96, 192)),
        ("model.layers.1.mlp.down_proj", "down_weight", slice(None)),
    ):
        a, b = (found[f"base_model.model.{module}.lora_{k}.weight"] for k in "AB")
        delta = getattr(merged.blocks[1], ours)[rows] - theirs[f"{module}.weight"]
        torch.testing.assert_close(2.0 * b @ a, delta.detach(), atol=1e-6, rtol=1e-4)
