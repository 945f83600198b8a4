"""Optimisers behind one step: what each moves, what it keeps, and that what it keeps is enough to go on."""

import pytest
import torch

from dokja.model.decoder import Decoder
from dokja.model.spec import ModelSpec, MoeSpec
from dokja.train.optim import Optimizer

RATES = {"lr_matrix": 0.02, "lr_embed": 0.02, "lr_head": 0.01, "lr_other": 0.01, "lr_lora": 0.01}
SPEC = ModelSpec(60, 32, 3, 2, 1, 16, 48, 32, window=8, norm="pre", moe=MoeSpec(4, 2, 16))
KINDS = ("muon", "adamw", "adafactor")


def step(model: Decoder, optimizer: Optimizer, seed: int) -> None:
    tokens = torch.randint(0, 60, (4, 16), generator=torch.Generator().manual_seed(seed))
    torch.nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
    optimizer.step(1.0)
    model.zero_grad()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_is_enough_to_go_on_bit_for_bit(kind) -> None:
    models = [Decoder(SPEC).init_weights(0) for _ in range(2)]
    first, second = (Optimizer(m, RATES, 0.1, kind) for m in models)
    for seed in range(3):
        step(models[0], first, seed)
    models[1].load_state_dict(models[0].state_dict())
    second.load({name: value.clone() for name, value in first.state().items()})
    for model, optimizer in zip(models, (first, second), strict=True):
        step(model, optimizer, 7)
    for (name, a), b in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b), name
    assert all(torch.equal(a, second.state()[name]) for name, a in first.state().items())


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_that_may_learn_is_moved(kind) -> None:
    model = Decoder(SPEC).init_weights(0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = Optimizer(model, RATES, 0.0, kind)
    for seed in range(3):  # zero matrices hold back the gradients of others for a step or two
        step(model, optimizer, seed)
    still = [name for name, p in model.named_parameters() if p.requires_grad and torch.equal(p, before[name])]
    assert still == []


def test_adafactor_is_torchs_on_every_matrix_and_keeps_a_number_a_row_and_column() -> None:
    model, peer = (Decoder(SPEC).init_weights(0) for _ in range(2))
    ours = Optimizer(model, RATES, 0.1, "adafactor")
    theirs = torch.optim.Adafactor([{"params": [peer.layers[1].qkv_weight], "weight_decay": 0.1}], lr=0.02)
    for seed in range(3):
        peer.load_state_dict(model.state_dict())
        tokens = torch.randint(0, 60, (4, 16), generator=torch.Generator().manual_seed(seed))
        torch.nn.functional.cross_entropy(peer(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
        theirs.step()
        peer.zero_grad()
        step(model, ours, seed)
        assert torch.equal(model.layers[1].qkv_weight, peer.layers[1].qkv_weight)
    kept = sum(value.numel() for value in ours.state().values())
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    rows_and_columns = sum(
        p.numel() // p.shape[-1] + p.numel() // p.shape[-2]
        for name, p in weights.items()
        if (name.endswith("_weight") and "router" not in name) or name in ("embed", "head")
    )
    vectors = sum(p.numel() for name, p in weights.items() if p.ndim == 1 or "router" in name)
    assert kept == rows_and_columns + 2 * vectors + len(weights)
