"""Load on experts: counted without padding, evened by biases and by a loss."""

import numpy as np
import pytest
import torch

from dokja.data.batch import make_batch
from dokja.model.decoder import Decoder
from dokja.model.moe import Routing
from dokja.model.spec import ModelSpec, MoeSpec
from dokja.train.balance import Balance, documents, figures, loads_and_loss, moved
from dokja.train.compiled import Runner

E, A = 6, 2


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def routing(rows, length, seed=0):
    scores = random(rows, length, E, seed=seed)
    return Routing(scores, scores.topk(A, dim=-1).indices)


def by_hand(scores, chosen, alpha=1.0):
    """DeepSeek-V3, equations 17 to 20, for one sequence of T tokens."""
    t, loss = len(scores), 0.0
    for e in range(E):
        f = E / (A * t) * sum(e in row for row in chosen.tolist())
        p = sum(float(s[e]) / float(s.sum()) for s in scores) / t
        loss += f * p
    return alpha * loss


def test_the_loss_is_the_papers_for_each_document_times_its_length():
    docs = torch.tensor([[1, 1, 1, 1, 2, 2, 2, 0], [1, 2, 2, 2, 2, 2, 2, 2]], dtype=torch.int32)
    r = routing(2, 8)
    expected, load = 0.0, torch.zeros(E)
    for row, number in ((0, 1), (0, 2), (1, 1), (1, 2)):
        here = docs[row] == number
        expected += int(here.sum()) * by_hand(r.scores[row][here], r.chosen[row][here])
        load += torch.bincount(r.chosen[row][here].flatten(), minlength=E)
    found, loss = loads_and_loss(r, docs)
    assert torch.equal(found, load) and int(load.sum()) == 15 * A
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_an_even_load_costs_one_a_token_and_a_leaning_one_more():
    chosen = torch.stack((torch.arange(E), torch.arange(E).roll(1)), dim=-1)[None]
    docs = torch.ones(1, E, dtype=torch.int32)
    _, even = loads_and_loss(Routing(torch.full((1, E, E), 0.5), chosen), docs)
    assert float(even) == pytest.approx(E)
    scores = torch.full((1, E, E), 0.1)
    scores[..., :A] = 0.9
    _, leaning = loads_and_loss(Routing(scores, torch.arange(A).expand(1, E, A)), docs)
    assert float(leaning) == pytest.approx(E * by_hand(scores[0], torch.arange(A).expand(E, A)), rel=1e-5)
    assert float(leaning) > 1.5 * float(even)


def test_padding_counts_in_neither_load_nor_loss_nor_gradient():
    r = routing(1, 10)
    scores = r.scores.clone().requires_grad_()
    docs = torch.tensor([[1] * 7 + [0] * 3], dtype=torch.int32)
    load, loss = loads_and_loss(Routing(scores, r.chosen), docs)
    cut, alone = loads_and_loss(Routing(r.scores[:, :7], r.chosen[:, :7]), docs[:, :7])
    assert torch.equal(load, cut) and float(loss.detach()) == pytest.approx(float(alone), rel=1e-6)
    loss.backward()
    assert (scores.grad[0, 7:] == 0).all() and (scores.grad[0, :7] != 0).any()


def test_documents_are_numbered_through_all_rows():
    docs = torch.tensor([[1, 1, 2, 0], [1, 2, 3, 3]], dtype=torch.int32)
    found, count = documents(docs)
    assert found.tolist() == [1, 1, 2, 0, 4, 5, 6, 6] and count == 7
    assert documents(torch.zeros(2, 3, dtype=torch.int32))[0].tolist() == [0] * 6


def test_a_bias_moves_by_the_rate_towards_the_mean_load():
    load = torch.tensor([0.0, 3.0, 6.0, 3.0])
    assert moved(torch.zeros(4), load, 0.1).tolist() == pytest.approx([0.1, 0.0, -0.1, 0.0])


def test_figures_name_the_worst_layer_and_the_dead():
    load = torch.tensor([[4.0, 4.0, 4.0, 4.0], [8.0, 8.0, 0.0, 0.0]])
    assert figures(load) == {"expert_load_worst": 2.0, "expert_load_mean": 1.5, "experts_dead": 0.25}


def test_moving_biases_bring_a_leaning_router_to_an_even_load():
    scores = random(1, 400, E) * 0.3 + torch.tensor([0.6, 0.5, 0.1, 0.1, 0.0, 0.0])
    bias, docs = torch.zeros(E), torch.ones(1, 400, dtype=torch.int32)
    ratios = []
    for _ in range(120):
        chosen = (scores + bias).topk(A, dim=-1).indices
        load, _ = loads_and_loss(Routing(scores, chosen), docs)
        ratios.append(figures(load[None])["expert_load_worst"])
        bias = moved(bias, load, 0.01)
    assert ratios[0] > 2.5 and max(ratios[-20:]) < 1.3


# --- in the trainer -----------------------------------------------------------------------------------------------


def model():
    spec = ModelSpec(
        vocab=20, width=16, layers=3, heads=2, kv_heads=1, head_dim=16, ffn=24, context=16, window=4, norm="pre",
        moe=MoeSpec(experts=E, active=A, ffn=8),
    )  # fmt: skip
    made, gen = Decoder(spec).init_weights(0), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in made.parameters():
            if p.ndim > 1:
                p.normal_(0.0, p.shape[-1] ** -0.5, generator=gen)
    return made


def batch(rows=4, length=16):
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 20, (rows, length))
    docs = np.sort(rng.integers(1, 4, (rows, length)), axis=1).astype(np.int32)
    docs[:, -3:] = 0
    targets = np.where(docs > 0, np.roll(tokens, -1, axis=1), -100)
    return make_batch((tokens, targets, docs), (rows,))


def gradients(made, b, rows, loss=1.0):
    """Of one batch in micro batches of `rows` rows, the cross entropy left out: only the balance loss."""
    runner = Runner(made, torch.float32, False, rows)
    runner.balance = Balance.of(made, 0.5, loss)
    runner.balance.begin(b.tokens)
    for at in range(0, len(b.tokens_BL), rows):
        part = [array[at : at + rows] for array in (b.tokens_BL, b.docs_BL, b.targets_BL)]
        runner.backward(*part, np.zeros(part[0].shape, np.float32))
    runner.balance.end()
    return runner.balance


def test_micro_batches_have_the_loads_and_the_balance_gradient_of_one_batch():
    b, found = batch(), []
    for rows in (4, 1):
        made = model()
        balance = gradients(made, b, rows)
        found.append((balance.load_NE, [p.grad for p in made.parameters() if p.grad is not None]))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][0].sum(1).tolist() == [b.tokens * A] * 2
    for whole, summed in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(whole, summed, rtol=1e-4, atol=1e-7)
    assert sum(float(g.abs().sum()) for g in found[0][1]) > 0


def test_the_balance_loss_lowers_itself():
    made, b = model(), batch()
    optimizer = torch.optim.SGD([p for n, p in made.named_parameters() if "router_weight" in n], lr=2.0)

    def value():
        routings = []
        with torch.no_grad():
            x = made.embedded(torch.from_numpy(b.tokens_BL))
            rows = made.rows(torch.from_numpy(b.tokens_BL), torch.from_numpy(b.docs_BL))
            made.stack(x, rows, routings=routings)
        return sum(float(loads_and_loss(r, torch.from_numpy(b.docs_BL))[1]) for r in routings) / b.tokens

    before = value()
    for _ in range(20):
        made.zero_grad()
        gradients(made, b, 4)
        optimizer.step()
    assert value() < before - 0.01


def test_a_frozen_router_keeps_its_biases_and_gets_no_loss():
    made, b = model(), batch()
    made.layers[1].moe.router_weight.requires_grad_(False)
    balance = gradients(made, b, 4)
    balance.move()
    biases = [layer.moe.router_bias for layer in made.layers[1:]]
    assert (biases[0] == 0).all() and (biases[1].abs() == 0.5).any()
    for layer in made.layers:
        if hasattr(layer, "moe"):
            layer.moe.router_weight.requires_grad_(False)
    made.zero_grad()
    gradients(made, b, 4)
    assert all(p.grad is None or not p.grad.any() for p in made.parameters())


def test_a_model_without_experts_has_no_balance():
    dense = ModelSpec(vocab=20, width=16, layers=1, heads=1, kv_heads=1, head_dim=16, ffn=24, context=16, pattern="G")
    assert Balance.of(Decoder(dense), None, None) is None
