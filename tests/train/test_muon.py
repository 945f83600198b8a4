import pytest
import torch
from torch import nn

from dokja.model.decoder import Decoder
from dokja.model.spec import ModelSpec, MoeSpec
from dokja.train import muon as module
from dokja.train.muon import Muon, matrices, orthogonalise
from dokja.train.optim import Optimizer, row_splits

SHAPES = [(24, 16), (16, 24), (16, 16), (40, 16)]
FUSED = [16, 8, 16]  # rows of the three parts of the last shape, as q, k and v lie in one parameter
RATES = {"lr_matrix": 0.02, "lr_embed": 0.01, "lr_head": 0.004, "lr_other": 0.003}


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def parts_of(tensors):
    """The matrices inside the parameters: the last one is three side by side."""
    return [*tensors[:-1], *tensors[-1].split(FUSED)]


def moved_by_both(steps, dtype, lr=0.03, decay=0.1):
    """The same parts after some steps of our Muon and of torch's, which sees every part as a matrix of its own."""
    ours = [nn.Parameter(random(*s, seed=i)) for i, s in enumerate(SHAPES)]
    theirs = [nn.Parameter(p.detach().clone()) for p in parts_of(ours)]
    muon = Muon([(p, [p.shape[0]] if i < 3 else FUSED) for i, p in enumerate(ours)], weight_decay=decay, dtype=dtype)
    reference = torch.optim.Muon(theirs, lr=lr, weight_decay=decay, momentum=0.95, adjust_lr_fn="original")
    for step in range(steps):
        for i, p in enumerate(ours):
            p.grad = random(*p.shape, seed=100 * step + i)
        for p, g in zip(theirs, parts_of([p.grad for p in ours]), strict=True):
            p.grad = g.clone()
        muon.step(lr)
        reference.step()
    return [p.detach() for p in parts_of(ours)], [p.detach() for p in theirs]


def test_every_part_moves_as_torch_moves_it_alone(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)  # torch's Newton-Schulz in full precision
    for a, b in zip(*moved_by_both(4, torch.float32), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_in_bf16_it_differs_from_torch_by_rounding_only():
    start = parts_of([random(*s, seed=i) for i, s in enumerate(SHAPES)])
    for a, b, before in zip(*moved_by_both(1, torch.bfloat16, decay=0.0), start, strict=True):
        assert (a - b).norm() < 0.1 * (b - before).norm()


def test_every_experts_gate_and_up_move_as_torch_moves_them_alone(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    experts, half, width = 3, 8, 16
    ours = nn.Parameter(random(experts, 2 * half, width))
    theirs = [nn.Parameter(part.clone()) for part in ours.detach().flatten(0, 1).split(half)]
    muon = Muon([(ours, [half, half] * experts)], weight_decay=0.1, dtype=torch.float32)
    reference = torch.optim.Muon(theirs, lr=0.03, weight_decay=0.1, momentum=0.95, adjust_lr_fn="original")
    for step in range(3):
        ours.grad = random(*ours.shape, seed=step) * torch.tensor([1.0, 1e3, 1e-3])[:, None, None]
        for p, g in zip(theirs, ours.grad.flatten(0, 1).split(half), strict=True):
            p.grad = g.clone()
        muon.step(0.03)
        reference.step()
    for a, b in zip(ours.detach().flatten(0, 1).split(half), theirs, strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-4, atol=1e-5)


def test_an_expert_without_a_token_only_decays():
    p = nn.Parameter(random(2, 8, 8))
    before = p.detach().clone()
    p.grad = random(2, 8, 8, seed=1)
    p.grad[1] = 0
    Muon([(p, [8, 8])], weight_decay=0.5, dtype=torch.float32).step(0.1)
    torch.testing.assert_close(p.detach()[1], before[1] * 0.95)
    assert (p.detach()[0] - before[0] * 0.95).abs().min() > 0


def test_matrices_are_views_that_cover_every_row_once():
    t = torch.zeros(3, 10, 4)
    parts = matrices(t, [5, 5] * 3)
    assert [tuple(part.shape) for part in parts] == [(6, 5, 4)]
    for part in matrices(t.view(30, 4), [16, 7, 7]):
        part += 1
    assert (t == 1).all()


def test_small_batches_move_as_large_ones_do(monkeypatch):
    found = []
    for limit in (1 << 24, 300):
        monkeypatch.setattr(module, "BATCH", limit)
        p = nn.Parameter(random(5, 16, 8))
        muon = Muon([(p, [8, 8] * 5)], dtype=torch.float32)
        p.grad = random(5, 16, 8, seed=1)
        assert [sum(t.numel() for t, _, _ in batch) <= limit for _, batch in muon._batches()].count(False) == 0
        muon.step(0.1)
        found.append(p.detach())
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


def test_fused_parts_are_not_coupled():
    whole = nn.Parameter(random(40, 16))
    start = whole.detach().clone()
    whole.grad = random(40, 16, seed=1)
    whole.grad[:16] *= 1e3  # would drown the others if they were one matrix
    Muon([(whole, FUSED)], dtype=torch.float32).step(0.1)
    sizes = [part.square().mean().sqrt().item() for part in (whole.detach() - start).split(FUSED)]
    assert max(sizes) < 1.5 * min(sizes)


@pytest.mark.parametrize("shape", [(3, 24, 64), (2, 64, 24), (1, 8, 200)])
def test_orthogonalise_brings_singular_values_near_one_and_keeps_the_vectors(shape):
    g = random(*shape) * 50
    x = orthogonalise(g, torch.float32)
    u, _, vt = torch.linalg.svd(g, full_matrices=False)
    inside = u.mT @ x @ vt.mT
    values = torch.diagonal(inside, dim1=-2, dim2=-1)
    assert values.min() > 0.6 and values.max() < 1.3
    torch.testing.assert_close(inside, torch.diag_embed(values), rtol=0, atol=1e-4)


def test_orthogonalise_treats_each_matrix_of_a_batch_alone():
    g = random(4, 12, 20)
    alone = torch.stack([orthogonalise(m[None], torch.float32)[0] for m in g])
    torch.testing.assert_close(orthogonalise(g, torch.float32), alone, rtol=1e-5, atol=1e-6)


def test_no_gradient_no_step():
    p = nn.Parameter(random(8, 8))
    before = p.detach().clone()
    p.grad = torch.zeros_like(p)
    Muon([(p, [8])]).step(0.5)
    assert torch.equal(p.detach(), before)


def small_model(activation="swiglu", moe=None):
    return Decoder(
        ModelSpec(vocab=40, width=32, layers=2, heads=4, kv_heads=2, head_dim=16, ffn=48, context=32, window=8,
                  activation=activation, moe=moe)
    ).init_weights(0)  # fmt: skip


@pytest.mark.parametrize("activation", ["swiglu", "relu2"])
def test_row_splits_are_the_matrices_of_the_official_layout(activation):
    model = small_model(activation)
    rows = {n: row_splits(model, n, p.shape[0]) for n, p in model.named_parameters() if n.startswith("layers.0.")}
    assert rows["layers.0.qkv_weight"] == [64, 32, 32]
    assert rows["layers.0.up_weight"] == ([48, 48] if activation == "swiglu" else [48])
    assert rows["layers.0.out_weight"] == [32] and rows["layers.0.down_weight"] == [32]


def test_row_splits_of_experts_are_those_of_one():
    model = small_model(moe=MoeSpec(experts=4, active=2, ffn=16, shared=2))
    optimizer = Optimizer(model, RATES, weight_decay=0.1)
    splits = dict(zip(optimizer.matrices, [rows for _, rows in optimizer.muon.parameters], strict=True))
    assert splits["layers.1.moe.up_weight"] == [16, 16] * 4 and splits["layers.1.moe.down_weight"] == [32] * 4
    assert splits["layers.1.moe.shared_up_weight"] == [32, 32]
    assert "layers.1.moe.router_weight" not in splits
    assert {g["name"]: g["rate"] for g in optimizer.others["adam"].param_groups}[
        "layers.1.moe.router_weight"
    ] == "lr_other"
    assert not any("router_bias" in name for name in optimizer.state())


def test_every_parameter_is_moved_by_exactly_one_rate():
    for moving in RATES:
        model = small_model()
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        optimizer = Optimizer(model, {k: v if k == moving else 0.0 for k, v in RATES.items()}, weight_decay=0.1)
        for i, p in enumerate(model.parameters()):
            p.grad = random(*p.shape, seed=i)
        optimizer.step(1.0)
        moved = {n for n, p in model.named_parameters() if not torch.equal(p.detach(), before[n])}
        expected = {
            "lr_matrix": {n for n in before if n.endswith("_weight")},
            "lr_embed": {"embed"},
            "lr_head": {"head"},
            "lr_other": {n for n in before if n.endswith("norm")},
        }
        assert moved == expected[moving]


def test_factor_scales_the_rates_and_zero_stands_still():
    model = small_model()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = Optimizer(model, RATES, weight_decay=0.1)
    for i, p in enumerate(model.parameters()):
        p.grad = random(*p.shape, seed=i)
    optimizer.step(0.0)
    assert all(torch.equal(p.detach(), before[n]) for n, p in model.named_parameters())


def test_state_taken_and_given_back_continues_bit_for_bit():
    def step(model, optimizer, seed):
        for i, p in enumerate(model.parameters()):
            p.grad = random(*p.shape, seed=seed + i)
        optimizer.step(0.7)

    first, second = small_model(), small_model()
    a = Optimizer(first, RATES, weight_decay=0.1)
    step(first, a, 0)
    second.load_state_dict(first.state_dict())
    b = Optimizer(second, RATES, weight_decay=0.1)
    b.load({name: tensor.clone() for name, tensor in a.state().items()})
    step(first, a, 50)
    step(second, b, 50)
    assert all(torch.equal(p, q) for p, q in zip(first.parameters(), second.parameters(), strict=True))
    assert a.state().keys() == b.state().keys()
    assert all(torch.equal(t, b.state()[name]) for name, t in a.state().items())
