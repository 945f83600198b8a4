"""The mixture of experts: beside a loop over tokens, beside transformers, and at its edges."""

import pytest
import torch
from torch.nn import functional as F
from transformers import ExaoneMoeConfig
from transformers.models.exaone_moe.modeling_exaone_moe import ExaoneMoeSparseMoEBlock

from dokja.model import moe as module
from dokja.model.block import Block, block_forward, rotation
from dokja.model.moe import Moe, lay_out
from dokja.model.spec import LayerSpec, ModelSpec, MoeSpec

WIDTH = 16
BASE = {"experts": 6, "active": 2, "ffn": 8, "scale": 2.5}


def spec(**moe) -> ModelSpec:
    return ModelSpec(
        vocab=40, width=WIDTH, layers=2, heads=2, kv_heads=1, head_dim=16, ffn=24, context=64, pattern="G", norm="pre",
        moe=MoeSpec(**(BASE | moe)),
    )  # fmt: skip


def layer(clamp=0.0, **moe) -> Moe:
    made, gen = Moe(spec(**moe), clamp), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(0.0, 0.1 if p.ndim == 1 else p.shape[-1] ** -0.5, generator=gen)
    return made


def stream(*shape, seed=1) -> torch.Tensor:
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(seed))


def network(x, up, down, clamp=0.0):
    gate, value = F.linear(x, up).chunk(2, dim=-1)
    if clamp:
        gate, value = gate.clamp(max=clamp), value.clamp(-clamp, clamp)
    return F.linear(F.silu(gate) * value, down)


def one_token_after_another(moe: Moe, x):
    """The definition, without a batch of anything."""
    out = []
    for token in x.flatten(0, -2):
        score = (moe.router_weight @ token).sigmoid()
        chosen = sorted(range(len(score)), key=lambda e: -float(score.detach()[e] + moe.router_bias[e]))[
            : moe.spec.active
        ]
        y = sum(score[e] * network(token, moe.up_weight[e], moe.down_weight[e], moe.clamp) for e in chosen)
        if moe.spec.normalize:
            y = y / sum(score[e] for e in chosen)
        y = y * moe.spec.scale
        if moe.spec.shared:
            y = y + network(token, moe.shared_up_weight, moe.shared_down_weight, moe.clamp)
        out.append(y)
    return torch.stack(out).view(x.shape)


@pytest.mark.parametrize(
    "changes",
    [{}, {"shared": 0, "normalize": False}, {"shared": 2, "active": 6}, {"clamp": 0.2}, {"active": 1}],
    ids=str,
)
def test_values_and_gradients_are_those_of_a_loop_over_tokens(changes):
    found = []
    for forward in (lambda m, x: m(x)[0], one_token_after_another):
        moe, x = layer(**changes), stream(3, 7).requires_grad_()
        y = forward(moe, x)
        (y * stream(3, 7, seed=2)).sum().backward()
        found.append([y, x.grad, *(p.grad for p in moe.parameters() if p.requires_grad)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [(1, 1), (3, 2), (2, 1)], ids=str)
def test_it_is_transformers_block_with_the_same_weights(groups):
    moe = layer(groups=groups[0], group_active=groups[1], shared=2)
    config = ExaoneMoeConfig(
        hidden_size=WIDTH, moe_intermediate_size=8, num_experts=6, num_experts_per_tok=2, num_shared_experts=2,
        routed_scaling_factor=2.5, n_group=groups[0], topk_group=groups[1], num_hidden_layers=2,
    )  # fmt: skip
    theirs = ExaoneMoeSparseMoEBlock(config)
    gate, up = moe.shared_up_weight.chunk(2)
    theirs.load_state_dict(
        {
            "gate.weight": moe.router_weight, "gate.e_score_correction_bias": moe.router_bias,
            "experts.gate_up_proj": moe.up_weight, "experts.down_proj": moe.down_weight,
            "shared_experts.gate_proj.weight": gate, "shared_experts.up_proj.weight": up,
            "shared_experts.down_proj.weight": moe.shared_down_weight,
        }
    )  # fmt: skip
    x = stream(2, 50)
    torch.testing.assert_close(moe(x)[0], theirs(x), rtol=1e-5, atol=1e-5)


def test_the_bias_chooses_and_does_not_weigh():
    moe, x = layer(), stream(20)
    with torch.no_grad():
        moe.router_bias.zero_()
        moe.router_bias[3] = 10.0
    routing, weight = moe.route(x)
    assert (routing.chosen == 3).any(-1).all()
    score = F.linear(x, moe.router_weight).sigmoid()
    mine = score.gather(-1, routing.chosen)
    torch.testing.assert_close(weight, 2.5 * mine / mine.sum(-1, keepdim=True))
    torch.testing.assert_close(routing.scores, score)


def test_experts_of_closed_groups_are_never_chosen_even_where_all_biases_are_negative():
    moe = layer(groups=3, group_active=1)
    with torch.no_grad():
        moe.router_bias.fill_(-5.0)
    chosen = moe.route(stream(100))[0].chosen
    assert (chosen // 2 == chosen[:, :1] // 2).all()  # both experts of a token are of one group of two
    assert len((chosen // 2).unique()) == 3


def test_all_tokens_on_one_expert_lose_none_and_the_empty_ones_get_zero_gradients():
    moe, x = layer(active=1, shared=0, normalize=True), stream(50).requires_grad_()
    with torch.no_grad():
        moe.router_bias.zero_()
        moe.router_bias[2] = 10.0
    y, _ = moe(x)
    torch.testing.assert_close(y, 2.5 * network(x, moe.up_weight[2], moe.down_weight[2]), rtol=1e-4, atol=1e-5)
    y.square().sum().backward()
    for p in (moe.up_weight, moe.down_weight):
        assert p.grad.isfinite().all() and p.grad[2].abs().sum() > 0
        assert (p.grad[[0, 1, 3, 4, 5]] == 0).all()


@pytest.mark.parametrize("align", [1, 4, 64])
def test_a_layout_gives_every_pair_a_row_of_its_own_among_those_of_its_expert(align):
    expert = torch.randint(0, 5, (97,), generator=torch.Generator().manual_seed(0))
    expert[expert == 3] = 1  # one has nothing to do
    slot, ends, rows = lay_out(expert, 5, align)
    starts = torch.cat((torch.zeros(1, dtype=ends.dtype), ends[:-1]))
    assert len(slot.unique()) == 97 and int(slot.max()) < rows == int(ends[-1])
    assert ((starts[expert] <= slot) & (slot < ends[expert])).all()
    assert (ends % align == 0).all() and rows % align == 0
    assert rows < 97 + 6 * align


@pytest.mark.parametrize("pattern", ["even", "one expert"])
def test_rows_filled_up_for_bf16_change_no_bit(monkeypatch, pattern):
    moe, x = layer(experts=2, active=1), stream(600).bfloat16()
    if pattern == "one expert":
        with torch.no_grad():
            moe.router_bias[1] = 10.0
    found = []
    for align in (64, 1):
        monkeypatch.setattr(module, "ALIGN", align)
        moe.zero_grad()
        y = moe(x)[0]
        y.float().square().sum().backward()
        found.append([y, *(p.grad for p in moe.parameters() if p.requires_grad)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)  # products of other heights may add in another order
    assert torch.equal(found[0][0], found[1][0])


def test_one_gradient_after_another_is_the_same_bits_in_deterministic_mode():
    torch.use_deterministic_algorithms(True)
    try:
        found = []
        for _ in range(2):
            moe, x = layer(), stream(4, 33).requires_grad_()
            moe(x)[0].square().sum().backward()
            found.append([x.grad, *(p.grad for p in moe.parameters() if p.requires_grad)])
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_compiled_layer_gives_the_eager_layers_values_and_the_same_bits_every_time(dtype):
    s = spec()
    block, gen = Block(s, LayerSpec(None, True, experts=True)), torch.Generator().manual_seed(0)
    with torch.no_grad():
        block.init_weights(gen)
        for p in (block.out_weight, block.moe.down_weight, block.moe.shared_down_weight):
            p.normal_(0.0, 0.1, generator=gen)
    x, rot, seen = stream(2, 64).to(dtype), rotation(torch.arange(64), s), torch.zeros(2, 64, dtype=torch.int32)
    torch.use_deterministic_algorithms(True)
    try:
        found, compiled = [], torch.compile(block_forward, dynamic=False)
        for run in (block_forward, compiled, compiled):
            block.zero_grad()
            y, routing = run(block, x, rot, seen)
            assert routing is not None
            (y.float().square().sum() + routing.scores.square().sum()).backward()
            found.append([y, *(p.grad for p in block.parameters() if p.requires_grad)])
    finally:
        torch.use_deterministic_algorithms(False)
    eager, once, again = found
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    for a, b in zip(eager, once, strict=True):
        near = 1e-4 if dtype == torch.float32 else 0.05
        assert (a.float() - b.float()).norm() <= near * a.float().norm()
